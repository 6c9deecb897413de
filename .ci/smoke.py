"""Starts `./scripts/serve` as a stranger would, asks it once, stops it, and looks for leftovers."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

REPOSITORY = Path(__file__).resolve().parents[1]
START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 60.0
UNSET = re.compile(r"^(FAREBOX_(?!PYTHON|VENV)|LITELLM_|REDIS_URL|LANGFUSE_)|_API_KEY$")


def processes_of(state: Path) -> list[str]:
    """Return the processes that were started for this state folder, by environment or command."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            facts = (process / "environ").read_bytes() + (process / "cmdline").read_bytes()
            zombie = "State:\tZ" in (process / "status").read_text()
        except OSError:
            continue
        if os.fsencode(state) in facts and not zombie and int(process.name) != os.getpid():
            found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found


def main() -> int:
    """Return 0 if all went well."""
    with tempfile.TemporaryDirectory(prefix="farebox-smoke-") as folder:
        state = Path(folder) / "state"
        output = Path(folder) / "output"
        environ = {name: value for name, value in os.environ.items() if not UNSET.search(name)}
        with output.open("wb") as file:
            serve = subprocess.Popen(
                [REPOSITORY / "scripts" / "serve", "--port", "0"],
                cwd=folder,
                env=environ | {"FAREBOX_HOME": str(state), "COLUMNS": "200"},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        try:
            url = wait_ready(serve, output)
            answer = httpx.post(
                f"{url}/v1/chat/completions",
                headers={"Authorization": f"Bearer {(state / 'master_key').read_text().strip()}"},
                json={"model": "auto", "messages": [{"role": "user", "content": "Fix: teh"}]},
                timeout=60.0,
                trust_env=False,
            )
            print(answer.status_code, dict(answer.headers), answer.text[:300])
            assert answer.status_code == 200, "the request was not answered"
            assert answer.headers["x-farebox-decision"], "the request was not governed"
            assert answer.headers["x-farebox-simulated"], "the answer is not marked as simulated"
        finally:
            serve.send_signal(signal.SIGINT)
            code = serve.wait(STOP_TIMEOUT_S)
            print(output.read_text())
        assert code == 0, f"serve ended with code {code}"
        left = processes_of(state)
        assert not left, f"left behind: {left}"
    print("smoke start: passed")
    return 0


def wait_ready(serve: "subprocess.Popen[bytes]", output: Path) -> str:
    """Wait for the start page; return the address that it names."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and serve.poll() is None:
        text = output.read_text()
        match = re.search(r"Listening on\s+(http\S+)", text)
        if match and "Ctrl-C stops everything" in text:
            return match[1]
        time.sleep(0.1)
    raise AssertionError("serve did not become ready")


if __name__ == "__main__":
    sys.exit(main())
