"""`./scripts/serve`: what it finds out before it starts, what it shows, and what it leaves behind.

The proxy here is a real LiteLLM with a small configuration of the test's own. The governed one is
tested end to end elsewhere.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from scripts.serving.options import Options, parse
from scripts.serving.page import StartPage, curl_line, is_warning, missing_keys
from scripts.serving.providers import ConfigFileError, Group, KeyState, read_groups
from scripts.simulator.process import SimulatorProcess

REPOSITORY = Path(__file__).resolve().parents[2]
# LiteLLM takes long to import where the cores are shared with other tests.
START_TIMEOUT_S = 150.0
COMMAND = (sys.executable, "-m", "scripts.serving")


def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait for a condition, with a bound."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the awaited condition did not come"
        time.sleep(0.05)


# ── What it finds out ─────────────────────────────────────────────────────────────────────────────


def groups_of(tmp_path: Path, entries: str, environ: Mapping[str, str]) -> dict[str, Group]:
    config = tmp_path / "litellm_config.yaml"
    config.write_text(f"model_list:\n{entries}")
    return {group.name: group for group in read_groups(config, environ)}


def entry(name: str, **parameters: str) -> str:
    return f"  - {json.dumps({'model_name': name, 'litellm_params': parameters})}\n"


def test_a_key_is_looked_for_where_the_entry_says(tmp_path: Path) -> None:
    entries = entry("a", model="openai/gpt-4o-mini", api_key="os.environ/TEAM_KEY")
    missing = groups_of(tmp_path, entries, {"OPENAI_API_KEY": "sk-other"})["a"]
    assert (missing.state, missing.missing) == (KeyState.MISSING, ("TEAM_KEY",))
    assert groups_of(tmp_path, entries, {"TEAM_KEY": "sk"})["a"].state is KeyState.PRESENT


def test_without_a_named_key_the_providers_variable_counts(tmp_path: Path) -> None:
    entries = entry("a", model="claude-haiku-4-5") + entry("b", model="minimax/MiniMax-M3")
    found = groups_of(tmp_path, entries, {"ANTHROPIC_API_KEY": "sk", "MINIMAX_API_KEY": ""})
    assert found["a"].state is KeyState.PRESENT
    assert found["b"].missing == ("MINIMAX_API_KEY",)


def test_gemini_has_two_variables_and_either_is_enough(tmp_path: Path) -> None:
    entries = entry("a", model="gemini/gemini-3.8-flash", api_key="os.environ/GEMINI_API_KEY")
    assert groups_of(tmp_path, entries, {"GOOGLE_API_KEY": "k"})["a"].state is KeyState.PRESENT
    assert groups_of(tmp_path, entries, {})["a"].missing == ("GEMINI_API_KEY or GOOGLE_API_KEY",)


def test_a_server_on_this_machine_and_a_written_key_need_no_variable(tmp_path: Path) -> None:
    entries = (
        entry("local", model="openai/llama", api_base="http://127.0.0.1:8080/v1")
        + entry("far", model="openai/llama", api_base="http://10.0.0.9:8080/v1")
        + entry("written", model="openai/x", api_key="sk-written")
        + entry("other", model="bedrock/anthropic.claude-v2")
    )
    found = groups_of(tmp_path, entries, {})
    assert found["local"].state is KeyState.OWN
    assert found["far"].state is KeyState.MISSING
    assert found["written"].state is KeyState.PRESENT
    assert found["other"].state is KeyState.OWN


def test_a_group_lacks_its_key_if_one_of_its_deployments_does(tmp_path: Path) -> None:
    entries = entry("a", model="openai/x", api_key="sk") + entry("a", model="anthropic/y")
    assert groups_of(tmp_path, entries, {})["a"].state is KeyState.MISSING


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("model_list: [", r"litellm_config\.yaml, line 1: this is no valid YAML"),
        ("router_settings: {}", "model_list is missing or empty"),
        ("model_list: [{model_name: a}]", "entry 1 of model_list has no litellm_params.model"),
    ],
)
def test_a_broken_configuration_is_reported_with_its_place(
    tmp_path: Path, content: str, message: str
) -> None:
    (tmp_path / "litellm_config.yaml").write_text(content)
    with pytest.raises(ConfigFileError, match=message):
        read_groups(tmp_path / "litellm_config.yaml", {})


def test_the_defaults_are_local_and_careful() -> None:
    assert parse([]) == Options("127.0.0.1", 4000, 1, None, live=False, verbose=False)


@pytest.mark.parametrize("wrong", [["--port", "70000"], ["--workers", "0"], ["--prot", "1"]])
def test_wrong_usage_ends_with_code_2(wrong: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(wrong)
    assert caught.value.code == 2


def test_live_lists_each_group_with_the_variable_to_set() -> None:
    text = missing_keys([Group("fast", ("gemini/x",), KeyState.MISSING, ("GEMINI_API_KEY",))])
    assert "fast (gemini/x): set GEMINI_API_KEY" in text


def test_the_curl_line_reads_the_key_and_does_not_hold_it() -> None:
    page = StartPage("http://h:1", "enforce", "", [], [], Path("c"), Path("/a b/key"), Path("l"))
    assert "$(cat '/a b/key')" in curl_line(page)


def test_only_fareboxs_own_warnings_reach_the_terminal() -> None:
    assert is_warning("2026-01-01 [warning  ] policy_invalid  logger=farebox.reload")
    assert not is_warning("LiteLLM: WARNING: something of its own")
    assert not is_warning("2026-01-01 [info     ] policy_loaded  logger=farebox.reload")


# ── What it does ──────────────────────────────────────────────────────────────────────────────────


class Serve:
    """`python -m scripts.serving` as a process, with what it prints going to a file."""

    def __init__(self, folder: Path, *arguments: str, **environ: str) -> None:
        self.output = folder / "serve.out"
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("FAREBOX_", "LITELLM_"))}
        kept = {k: v for k, v in kept.items() if k != "REDIS_URL" and not k.endswith("_API_KEY")}
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [*COMMAND, "--config", str(folder / "c.yaml"), "--port", "0", *arguments],
                cwd=REPOSITORY,
                env=kept | {"COLUMNS": "200"} | environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def text(self) -> str:
        return self.output.read_text()

    def wait_ready(self) -> None:
        until(
            lambda: "Ctrl-C stops everything" in self.text() or self.process.poll() is not None,
            START_TIMEOUT_S,
        )
        assert self.process.poll() is None, self.text()

    def descendants(self) -> dict[int, str]:
        """Return every process below this one, and the embedded Redis with its supervisor."""
        out = subprocess.run(
            ["ps", "-ewwo", "pid=,ppid=,args="], capture_output=True, text=True, check=True
        )
        rows = [line.split(None, 2) for line in out.stdout.splitlines()]
        state = str(self.output.parent / ".farebox")
        found = {self.process.pid} | {int(row[0]) for row in rows if state in row[-1]}
        for _ in range(5):
            found |= {int(row[0]) for row in rows if int(row[1]) in found}
        found.remove(self.process.pid)
        return {int(row[0]): row[-1] for row in rows if int(row[0]) in found}

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)


def are_gone(pids: Mapping[int, str]) -> bool:
    out = subprocess.run(["ps", "-eo", "pid=,stat="], capture_output=True, text=True, check=True)
    running = [line.split() for line in out.stdout.splitlines()]
    return not {int(pid) for pid, state in running if not state.startswith("Z")} & set(pids)


@pytest.fixture(scope="module")
def simulator() -> Iterator[SimulatorProcess]:
    with SimulatorProcess() as process:
        yield process


@pytest.fixture
def folder(tmp_path: Path, simulator: SimulatorProcess) -> Path:
    """A configuration with one group that can be asked, and one without its key."""
    api_base = f"{simulator.base_url}/v1"
    (tmp_path / "c.yaml").write_text(
        "model_list:\n"
        + entry("auto", model="openai/gpt-4o-mini", api_base=api_base, api_key="sk-simulated")
        + entry("claude-haiku", model="anthropic/claude-haiku-4-5")
        + "general_settings: {master_key: os.environ/LITELLM_MASTER_KEY}\n"
    )
    return tmp_path


@pytest.mark.timeout(240)
def test_it_starts_everything_shows_a_line_to_try_and_leaves_nothing_behind(folder: Path) -> None:
    serve = Serve(folder, "--workers", "2")
    try:
        serve.wait_ready()
        page = serve.text()
        assert re.search(
            r"claude-haiku +anthropic/claude-haiku-4-5 +SIMULATED +set ANTHROPIC", page
        )
        assert re.search(r"auto +openai/gpt-4o-mini +live key", page)
        key = (folder / ".farebox" / "master_key").read_text().strip()
        assert key not in page
        (line,) = [line for line in page.splitlines() if line.strip().startswith("curl")]
        answer = subprocess.run(line, shell=True, capture_output=True, text=True, check=True)
        assert " 200 OK" in answer.stdout and '"choices"' in answer.stdout
        started = serve.descendants()
        for part in ("redis-server", "embedded_supervisor", "scripts.simulator", "litellm"):
            assert any(part in command for command in started.values()), part
    finally:
        code = serve.end(signal.SIGINT)
    assert code == 0, serve.text()
    assert are_gone(started), "it returns only when all have ended"
    assert list((folder / ".farebox" / "prometheus").iterdir()) == []


@pytest.mark.timeout(240)
def test_a_killed_serve_takes_everything_along(folder: Path) -> None:
    serve = Serve(folder)
    serve.wait_ready()
    started = serve.descendants()
    serve.end(signal.SIGKILL)
    until(lambda: are_gone(started))


@pytest.mark.timeout(240)
def test_a_proxy_that_dies_is_reported_with_its_last_lines(folder: Path) -> None:
    serve = Serve(folder)
    serve.wait_ready()
    started = serve.descendants()
    (proxy,) = [pid for pid, command in started.items() if "litellm --config" in command]
    os.kill(proxy, signal.SIGKILL)
    assert serve.process.wait(60) == 1
    assert "The proxy ended by itself" in serve.text()
    assert str(folder / ".farebox" / "logs" / "proxy.log") in serve.text()
    assert are_gone(started)


def test_live_refuses_to_start_while_a_key_is_missing(folder: Path) -> None:
    serve = Serve(folder, "--live")
    assert serve.process.wait(30) == 1
    assert "claude-haiku (anthropic/claude-haiku-4-5): set ANTHROPIC_API_KEY" in serve.text()


def test_a_key_in_the_env_file_counts(folder: Path) -> None:
    (folder / ".env").write_text("ANTHROPIC_API_KEY=sk-ant-x\nREDIS_URL=redis://127.0.0.1:1\n")
    serve = Serve(folder, "--live")
    assert serve.process.wait(30) == 1
    assert "redis" in serve.text().lower() and "set ANTHROPIC" not in serve.text()


def test_a_taken_port_is_reported_with_the_remedy(folder: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        serve = Serve(folder, "--port", port)
        assert serve.process.wait(30) == 1
    assert f"Cannot listen on 127.0.0.1:{port}" in serve.text()
    assert "--port" in serve.text()


def test_a_dead_outside_redis_is_reported_without_its_password(folder: Path) -> None:
    serve = Serve(folder, REDIS_URL="redis://me:s3cret@127.0.0.1:1")
    assert serve.process.wait(30) == 1
    assert "Check REDIS_URL" in serve.text()
    assert "s3cret" not in serve.text()
