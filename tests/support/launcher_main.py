"""The process that `launcher` talks to, on a socket of its own folder: one JSON line in, one out.

It ends when nobody is connected any more, and takes its folder along.
"""

from __future__ import annotations

import gc
import io
import json
import os
import shutil
import signal
import socket
import sys
from multiprocessing import context, forkserver, popen_fork, popen_forkserver, reduction, spawn
from multiprocessing.popen_spawn_posix import Popen as SpawnedPopen
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from typing import Any

LENGTH_BYTES = 4
SPARE_WORKERS = 2
"""How many workers that end may be followed by another that was forked."""


def serve(listener: socket.socket) -> dict[str, Any] | None:
    """Answer until nobody listens: then None. A fork returns with what it is to run."""
    codes: dict[int, int] = {}
    with DefaultSelector() as selector, listener:
        selector.register(listener, EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.data is None:
                    connection, _ = listener.accept()
                    selector.register(connection, EVENT_READ, connection.makefile("r"))
                    continue
                client: socket.socket = key.fileobj  # type: ignore[assignment]
                line = key.data.readline()
                if not line:
                    selector.unregister(client)
                    key.data.close()
                    client.close()
                    if len(selector.get_map()) == 1:
                        return None
                    continue
                request = json.loads(line)
                if "poll" in request:
                    answer = poll(request["poll"], codes)
                elif (answer := os.fork()) == 0:
                    for other in filter(lambda it: it.data, selector.get_map().values()):
                        other.data.close()
                        other.fileobj.close()  # type: ignore[union-attr]
                    return dict(request)
                client.sendall(json.dumps(answer).encode() + b"\n")


def poll(pid: int, codes: dict[int, int]) -> int | None:
    """Return the code of a process that has ended."""
    if pid not in codes:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            codes[pid] = os.waitstatus_to_exitcode(status)
    return codes.get(pid)


def become(request: dict[str, Any]) -> None:
    """Take on the environment, folder, arguments and output of the process that was asked for."""
    os.setsid()
    signal.set_wakeup_fd(-1)
    output = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    os.close(output)
    os.close(nothing)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["cwd"])
    sys.path[:0] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    sys.argv = ["litellm", *request["arguments"]]


class Embryos:
    """Forks that wait, as new as this process is now, for the workers that uvicorn spawns.

    A spawned worker is a new Python that imports LiteLLM and is then handed its work, pickled. An
    embryo is handed the same; it has imported LiteLLM, and nothing has happened in it since. Where
    none is left, a worker is spawned.
    """

    def __init__(self, count: int) -> None:
        self._waiting: list[tuple[int, socket.socket]] = []
        for _ in range(count):
            ours, theirs = socket.socketpair()
            pid = os.fork()
            if pid == 0:
                ours.close()
                for _, other in self._waiting:
                    other.close()
                live_as_worker(theirs)
            theirs.close()
            self._waiting.append((pid, ours))
        setattr(context.SpawnProcess, "_Popen", staticmethod(self.popen))  # noqa: B010

    def popen(self, process: Any) -> popen_fork.Popen:
        """Start the process: what `multiprocessing` asks for."""
        if not self._waiting:
            return SpawnedPopen(process)
        return _Born(process, *self._waiting.pop(0))


class _Born(popen_forkserver.Popen):
    """A process in an embryo. It differs from one of the fork server in being our own child."""

    # The fork server's would ask the fork server.
    poll = popen_fork.Popen.poll

    def __init__(self, process: Any, pid: int, embryo: socket.socket) -> None:
        self.pid = pid
        self._embryo = embryo
        super().__init__(process)

    def _launch(self, process: Any) -> None:
        data = io.BytesIO()
        context.set_spawning_popen(self)
        try:
            reduction.dump(spawn.get_preparation_data(process._name), data)
            reduction.dump(process, data)
        finally:
            context.set_spawning_popen(None)
        environment = json.dumps(dict(os.environ)).encode()
        length = len(environment).to_bytes(LENGTH_BYTES)
        socket.send_fds(self._embryo, [length], self._fds)  # type: ignore[attr-defined]
        self._embryo.sendall(environment)
        self._embryo.sendall(data.getbuffer())
        # The other end is open as long as the process lives.
        self.sentinel = self._embryo.fileno()


def live_as_worker(parent: socket.socket) -> None:
    """Wait for work, do it, and end as a spawned process does."""
    gc.enable()
    length, descriptors, _, _ = socket.recv_fds(parent, LENGTH_BYTES, 64)
    if length:
        # LiteLLM tells its workers by variables what to serve.
        told = parent.recv(int.from_bytes(length), socket.MSG_WAITALL)
        os.environ.clear()
        os.environ.update(json.loads(told))
        forkserver._forkserver._inherited_fds = descriptors  # type: ignore[attr-defined]
        code = spawn._main(os.dup(parent.fileno()), parent.fileno())
        sys.exit(code)
    os._exit(0)


def run(request: dict[str, Any]) -> Any:
    """Become the process that was asked for, and run LiteLLM's entry point in it."""
    become(request)
    if request["workers"] > 1:
        Embryos(request["workers"] + SPARE_WORKERS)
    gc.enable()
    return litellm.run_server()


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(folder / "socket"))
    listening.listen()
    # Garbage is not worth looking for while nothing but modules is made; a fork starts afresh.
    gc.disable()
    import litellm.litellm_core_utils.default_encoding  # Where the vocabularies are.
    import litellm.proxy.proxy_cli
    import litellm.proxy.proxy_server
    from tiktoken import get_encoding

    # A vocabulary, read from a file of LiteLLM's that never changes.
    get_encoding("o200k_base")

    # It decides at its import, by the environment, where its numbers are kept.
    assert "prometheus_client" not in sys.modules, "a fork would keep its metrics to itself"
    gc.freeze()
    asked = serve(listening)
    if asked is not None:
        sys.exit(run(asked))
    shutil.rmtree(folder, ignore_errors=True)
