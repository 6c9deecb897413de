"""The process that `launcher` talks to: one JSON line in, one out; it ends with its input."""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
from typing import Any


def serve() -> dict[str, Any] | None:
    """Answer until the input ends: then None. A fork returns with what it is to run."""
    codes: dict[int, int] = {}
    for line in sys.stdin:
        request = json.loads(line)
        if "poll" in request:
            pid = request["poll"]
            if pid not in codes:
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    codes[pid] = os.waitstatus_to_exitcode(status)
            answer(codes.get(pid))
            continue
        child = os.fork()
        if child == 0:
            return dict(request)
        answer(child)
    return None


def answer(value: object) -> None:
    """Write one line back."""
    print(json.dumps(value), flush=True)


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


if __name__ == "__main__":
    # Garbage is not worth looking for while nothing but modules is made; a fork starts afresh.
    gc.disable()
    import litellm.proxy.proxy_cli
    import litellm.proxy.proxy_server

    gc.freeze()
    asked = serve()
    if asked is not None:
        become(asked)
        gc.enable()
        sys.exit(litellm.run_server())
