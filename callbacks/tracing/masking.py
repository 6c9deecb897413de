"""The user's own function that masks what a trace carries of prompts and answers.

It is named by a dotted path, such as `our_masks.without_names`, and gets one text after another:

    def without_names(text: str) -> str: ...

Whatever goes wrong in it, nothing of the content it was asked about is sent, and the request knows
nothing of it. Its error's own words are not repeated anywhere: they may quote the prompt.
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable
from pathlib import Path

import structlog

log = structlog.get_logger("farebox.tracing")

WARNING_INTERVAL_S = 60.0

Mask = Callable[[str], str]


class MaskError(ValueError):
    """A mask that cannot be loaded; the text says why."""


class MaskFailed(Exception):
    """The mask raised, or gave something that is no text. `kind` names what."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


def load(path: str, folder: Path | None = None) -> Mask:
    """Return the function of a dotted path; its module may stand in `folder`.

    Raises:
        MaskError: there is no such module or function there, or the module fails on its import.
    """
    module_name, _, name = path.rpartition(".")
    if not module_name or not all(part.isidentifier() for part in path.split(".")):
        raise MaskError(
            f"{path!r} is no dotted path to a function, such as our_masks.without_names"
        )
    known = list(sys.path)
    if folder is not None and str(folder) not in known:
        sys.path.insert(0, str(folder))
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or module_name
        where = f" (looked in {folder} too)" if folder is not None else ""
        raise MaskError(f"there is no module {missing}{where}") from None
    except BaseException as error:
        raise MaskError(f"importing {module_name} raised {type(error).__name__}") from None
    finally:
        sys.path[:] = known
    found = getattr(module, name, None)
    if found is None:
        raise MaskError(f"the module {module_name} has no {name}")
    if not callable(found):
        raise MaskError(f"{path} is no function")
    return Guarded(found)


class Guarded:
    """A mask whose failures are told apart from its answers. Logs one failure a minute."""

    def __init__(self, mask: Mask, clock: Callable[[], float] = time.monotonic) -> None:
        self._mask = mask
        self._clock = clock
        self._logged_at: float | None = None
        self.failures = 0

    def __call__(self, text: str) -> str:
        """Return the masked text.

        Raises:
            MaskFailed: the function raised, or gave no text.
        """
        try:
            found = self._mask(text)
        except BaseException as error:
            # Even an exit: it would end the thread that sends, not the person's program.
            raise self._failed(type(error).__name__) from None
        if not isinstance(found, str):
            raise self._failed(f"gave {type(found).__name__}")
        return found

    def _failed(self, kind: str) -> MaskFailed:
        self.failures += 1
        now = self._clock()
        if self._logged_at is None or now - self._logged_at >= WARNING_INTERVAL_S:
            self._logged_at = now
            log.warning("trace_mask_failed", kind=kind, failures=self.failures)
        return MaskFailed(kind)
