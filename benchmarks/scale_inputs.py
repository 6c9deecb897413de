"""What a request costs the ledger's Redis, measured by Redis's own counters: the input of `scale`.

The real path (decide, hold, settle) runs on a Redis of its own, one request after the other. Redis
says how much processor time its one thread took, reading and answering included, and what was
written to the file. So other processes on the machine disturb little, and waiting does not count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from benchmarks.inside import Bench, prompt, redis_socket
from budgets.packer import Packer

PROMPT_TOKENS = 500
SAMPLE = 500


@dataclass(frozen=True, slots=True)
class Inputs:
    """The cost of one request for the store. Times are of Redis's thread, sizes in bytes.

    `ping_us` is the least that any command costs, for scale. An entry, a decision and what an ended
    hold leaves stay in memory, each for its time; a decision is packed after an
    hour. `file_bytes` is what a request adds to the append-only file before that.
    """

    requests: int
    scripts_before: float
    scripts_after: float
    ping_us: float
    before_us: float
    after_us: float
    entry_bytes: float
    decision_bytes: float
    packed_bytes: float
    hold_bytes: float
    file_bytes: float
    net_bytes: float

    @property
    def both_us(self) -> float:
        """What admission and settling take together."""
        return self.before_us + self.after_us


async def measure(count: int) -> Inputs:
    """Admit and settle so many requests with the pack's policy."""
    async with redis_socket() as socket:
        bench = Bench(socket)
        await bench.start()
        client: Any = bench.client
        texts = [prompt(PROMPT_TOKENS) for _ in range(count)]
        for text in texts[:20]:  # The first ones load scripts.
            await bench.settle((await bench.governor.admit(bench.incoming(text))).request_id)
        await bench.runtime.endings.flush()
        idle = await _counters(client)
        admitted = [(await bench.governor.admit(bench.incoming(text))).request_id for text in texts]
        held = await _counters(client)
        for request_id in admitted:
            await bench.settle(request_id)
        await bench.runtime.endings.flush()  # Ends go to the store in batches.
        done = await _counters(client)
        for _ in range(count):
            await client.ping()
        pinged = await _counters(client)
        kept = {kind: await _bytes_of(client, kind) for kind in ("entries", "decision", "hold")}
        length = await client.xlen((await client.keys("farebox:*}:entries"))[0])
        name = bench.name
        await Packer(bench.client, bench.ledger, name, "bench", pause_s=0, age_ms=0).look()
        kept["packed"] = await _bytes_of(client, "packed:")
        await bench.client.aclose()
    return Inputs(
        requests=count,
        scripts_before=(held.scripts - idle.scripts) / count,
        scripts_after=(done.scripts - held.scripts) / count,
        ping_us=(pinged.thread_us - done.thread_us) / count,
        before_us=(held.thread_us - idle.thread_us) / count,
        after_us=(done.thread_us - held.thread_us) / count,
        entry_bytes=kept["entries"] / length,
        decision_bytes=kept["decision"],
        packed_bytes=kept["packed"],
        hold_bytes=kept["hold"],
        file_bytes=(done.file - idle.file) / count,
        net_bytes=(done.net_in - idle.net_in + done.net_out - idle.net_out) / count,
    )


@dataclass(frozen=True, slots=True)
class _Counters:
    """Sums of a Redis since its start."""

    scripts: int
    thread_us: float
    net_in: int
    net_out: int
    file: int


async def _counters(client: Any) -> _Counters:
    info = await client.info("everything")
    calls = [it["calls"] for name, it in info.items() if name.startswith("cmdstat_evalsha")]
    thread_s = info["used_cpu_user_main_thread"] + info["used_cpu_sys_main_thread"]
    return _Counters(
        sum(calls),
        thread_s * 1e6,
        info["total_net_input_bytes"],
        info["total_net_output_bytes"],
        info["aof_current_size"],
    )


async def _bytes_of(client: Any, kind: str) -> float:
    """Return the mean memory of the keys of a kind."""
    names = [name async for name in client.scan_iter(f"farebox:*}}:{kind}*", count=1_000)]
    sizes = [await client.memory_usage(name, samples=0) for name in names[:SAMPLE]]
    return float(sum(sizes) / len(sizes))
