"""A reader who follows the pages: a copy of the repository, a started proxy, one shell's memory.

The copy has a virtual environment of its own that `./scripts/serve` takes for set up. It borrows
the packages of the environment that runs the tests, and Farebox's own come from the copy.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
import venv
from collections.abc import Callable
from pathlib import Path

from tests.docs.blocks import Block
from tests.support.proxy import free_port

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("budgets", "hooks", "callbacks", "scripts", "docs")
POLICY_FILES = ("litellm_config.yaml", "hooks/routing.yaml", "budgets/budgets.yaml")
START_TIMEOUT_S = 180.0
BLOCK_TIMEOUT_S = 120.0
RELOAD_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 60.0
POLL_S = 0.05
PORT_IN_THE_PAGES = "4000"

_FOREIGN = re.compile(r"^(FAREBOX_|LITELLM_|LANGFUSE_|REDIS_URL$|PYTHON|VIRTUAL_ENV$)|_API_KEY$")
_RELOADED = b"policy_reloaded"
_SCRIPTS = {
    "farebox": "from scripts.cli.main import app\napp()\n",
    "litellm": "import sys\nfrom litellm import run_server\nsys.exit(run_server())\n",
}


class Walk:
    """The reader's folder, terminal and proxy. `start` it, `run` blocks in it, `stop` it."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "a stranger's farebox"
        self.port = free_port()
        self.page = ""
        """What the start page printed."""
        self._output = folder / "serve.out"
        self._shell = folder / "shell-environment"
        self._environ = {k: v for k, v in os.environ.items() if not _FOREIGN.search(k)}
        self._environ |= {"COLUMNS": "160", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
        self._serve: subprocess.Popen[bytes] | None = None
        _copy_repository(self.root)
        _make_environment(self.root)
        self._policy = {name: self._text(name) for name in POLICY_FILES}

    def start(self, block: Block) -> None:
        """Run the block that serves, on a free port, until its start page stands whole."""
        command = f"{block.text.strip()} --port {self.port}"
        with self._output.open("wb") as output:
            self._serve = subprocess.Popen(
                ["bash", "-c", f"exec {command}"],
                cwd=self.root,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        _wait(
            lambda: "Ctrl-C stops everything" in self._printed() or self._serve_ended(),
            START_TIMEOUT_S,
            "the start page",
        )
        self.page = self._printed()
        assert not self._serve_ended(), self.page

    def stop(self) -> str:
        """Press Ctrl-C, wait for the end with code 0, and return all that was printed."""
        if self._serve is None:
            return ""
        if not self._serve_ended():
            self._serve.send_signal(signal.SIGINT)
        try:
            code = self._serve.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._serve.kill()
            raise
        assert code == 0, self._printed()
        return self._printed()

    def run(self, block: Block) -> str:
        """Run a block as its reader would, in one lasting terminal; return what it printed."""
        if block.verb == "edit":
            self._edit(block)
            return ""
        text = block.text.replace(PORT_IN_THE_PAGES, str(self.port))
        return self.shell(text) if block.language == "bash" else self._python(text, block)

    def shell(self, text: str) -> str:
        """Run shell commands with what earlier ones exported."""
        remembered = f". '{self._shell}'\n" if self._shell.exists() else ""
        log_bytes, before = self._log_bytes(), self._policies()
        done = self._finish(
            ["bash", "-c", f"set -eo pipefail\n{remembered}{text}\nexport -p > '{self._shell}'"],
            None,
        )
        if self._policies() != before:
            self._wait_for_reload(log_bytes)
        return done

    def restore(self) -> None:
        """Put the policy's files back, as a reader would before the next page."""
        if self._policies() == self._policy:
            return
        log_bytes = self._log_bytes()
        for name, text in self._policy.items():
            (self.root / name).write_text(text, encoding="utf-8")
        self._wait_for_reload(log_bytes)

    def _python(self, text: str, block: Block) -> str:
        remembered = f". '{self._shell}'\n" if self._shell.exists() else ""
        return self._finish(["bash", "-c", f"{remembered}exec python - # {block}"], text)

    def _finish(self, command: list[str], stdin: str | None) -> str:
        done = subprocess.run(
            command,
            cwd=self.root,
            env=self._environ,
            input=stdin,
            stdin=None if stdin is not None else subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=BLOCK_TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, f"{command[-1]}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def _edit(self, block: Block) -> None:
        match = re.fullmatch(r"(?P<file>\S+) under (?P<key>.+)", block.rest)
        assert match is not None, f"{block}: write `edit: FILE under KEY`"
        path = self.root / match["file"]
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        at = lines.index(match["key"] + "\n") + 1
        log_bytes = self._log_bytes()
        path.write_text("".join([*lines[:at], block.text, *lines[at:]]), encoding="utf-8")
        self._wait_for_reload(log_bytes)

    def _wait_for_reload(self, log_bytes: int) -> None:
        _wait(
            lambda: _RELOADED in self._log.read_bytes()[log_bytes:],
            RELOAD_TIMEOUT_S,
            "the proxy takes the edit",
        )

    @property
    def _log(self) -> Path:
        return self.root / ".farebox" / "logs" / "proxy.log"

    def _log_bytes(self) -> int:
        return self._log.stat().st_size if self._log.exists() else 0

    def _policies(self) -> dict[str, str]:
        return {name: self._text(name) for name in POLICY_FILES}

    def _text(self, name: str) -> str:
        return (self.root / name).read_text(encoding="utf-8")

    def _printed(self) -> str:
        return self._output.read_text(encoding="utf-8")

    def _serve_ended(self) -> bool:
        return self._serve is not None and self._serve.poll() is not None


def _copy_repository(target: Path) -> None:
    target.mkdir()
    for name in COPIED:
        # With what is compiled of it, as anybody's second start finds it.
        shutil.copytree(ROOT / name, target / name)
    for file in ROOT.iterdir():
        if file.suffix in (".yaml", ".toml", ".lock", ".md") and file.is_file():
            shutil.copy2(file, target / file.name)


def _make_environment(root: Path) -> None:
    folder = root / ".venv"
    venv.EnvBuilder(symlinks=True, with_pip=False).create(folder)
    python = folder / "bin" / "python"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    borrowed = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    lines = [str(root), *(f"import site; site.addsitedir({path!r})" for path in borrowed)]
    packages = folder / "lib" / version / "site-packages"
    (packages / "borrowed.pth").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for name, text in _SCRIPTS.items():
        script = folder / "bin" / name
        # A shebang line cannot hold a path with a space: the shell finds Python instead.
        script.write_text(f"#!/bin/sh\n'''exec' \"{python}\" \"$0\" \"$@\"\n' '''\n{text}")
        script.chmod(0o755)
    server = Path(sys.prefix) / "lib" / "farebox"
    if server.is_dir():
        (folder / "lib" / "farebox").symlink_to(server)
    digest = subprocess.run(
        ["bash", "-c", ". scripts/setup.sh && _farebox_digest"],
        cwd=root,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    (folder / "farebox-stamp").write_text(f"dev {digest}\n", encoding="utf-8")


def _wait(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s:.0f} s: {what}"
        time.sleep(POLL_S)
