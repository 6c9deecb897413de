"""What a failed attempt may have cost, read from the chain of exceptions behind it.

The rule is the ledger's fifth promise. An error status before any output costs nothing. A send that
never reached the provider costs nothing. Everything else may have been billed: the provider had
the request and we did not wait for, or did not get, the whole answer.

Exception classes are told apart by name: the chain mixes LiteLLM's, the OpenAI SDK's, httpx's and
aiohttp's classes, which differ by provider and would all have to be imported here.
"""

from __future__ import annotations

from enum import Enum

_CHAIN_MAX = 24

_NOT_SENT = frozenset(
    {
        "ConnectError", "ConnectTimeout", "PoolTimeout", "ClientConnectorError",
        "ConnectionRefusedError", "gaierror", "ClientConnectorDNSError", "UnsupportedProtocol",
        "ClientConnectorCertificateError", "ConnectionTimeoutError",
    }
)  # fmt: skip
_CUT_OFF = frozenset(
    {
        "ReadTimeout", "WriteTimeout", "APITimeoutError", "ReadError", "WriteError",
        "RemoteProtocolError", "ServerDisconnectedError", "ClientPayloadError", "CancelledError",
        "SocketTimeoutError", "ClientOSError", "TimeoutError", "IncompleteRead",
        "ConnectionResetError", "ServerTimeoutError",
    }
)  # fmt: skip
_STATUS = frozenset({"HTTPStatusError", "APIStatusError", "HTTPException"})
_UNREADABLE = frozenset({"KeyError", "JSONDecodeError", "ValidationError", "IndexError"})
"""An answer came and could not be read, such as one without the usage that LiteLLM expects."""
_UNREADABLE_TEXT = "Error converting to valid response block"
"""What LiteLLM says of an answer of Gemini's that it could not read, with a status of its own."""


class Fate(Enum):
    """What became of an attempt that failed."""

    NOT_SENT = "not_sent"
    REFUSED = "refused"
    UNREADABLE = "unreadable"
    """A whole answer came, which was billed, and LiteLLM could not read it."""
    MAYBE_BILLED = "maybe_billed"


def fate_of(exception: BaseException) -> Fate:
    """Return the fate of an attempt that raised `exception`.

    The chain is walked from the outside in, and the first exception that says what happened on the
    wire decides: further in stand those of earlier attempts. Where none does, an answer that could
    not be read was billed, a status below 500 is a refusal by LiteLLM itself, and any other status
    is unclear, so it counts as billed. No status at all means that nothing was sent (LiteLLM found
    no deployment to send to).
    """
    unreadable = False
    status: int | None = None
    current: BaseException | None = exception
    for _ in range(_CHAIN_MAX):
        if current is None:
            break
        names = {base.__name__ for base in type(current).__mro__}
        if not _is_litellm(current):
            # LiteLLM's own classes inherit from the SDK's for every kind of failure: they say
            # nothing about the wire. A time-out or a cut connection can stand above the failure to
            # connect that caused it.
            if names & _NOT_SENT:
                return Fate.NOT_SENT
            if names & _STATUS:
                return Fate.REFUSED
            if names & _CUT_OFF:
                return Fate.NOT_SENT if _reaches(current, _NOT_SENT) else Fate.MAYBE_BILLED
        unreadable = unreadable or bool(names & _UNREADABLE) or _UNREADABLE_TEXT in str(current)
        code = getattr(current, "status_code", None)
        if status is None and isinstance(code, int):
            status = code
        current = current.__cause__ or current.__context__
    if status is None:
        return Fate.NOT_SENT
    if unreadable:
        return Fate.UNREADABLE
    if status < 400 or status >= 500:
        return Fate.MAYBE_BILLED
    return Fate.REFUSED


def _is_litellm(exception: BaseException) -> bool:
    return type(exception).__module__.startswith("litellm.")


def _reaches(exception: BaseException, names: frozenset[str]) -> bool:
    current: BaseException | None = exception
    for _ in range(3):
        if current is None:
            return False
        if {base.__name__ for base in type(current).__mro__} & names:
            return True
        current = current.__cause__ or current.__context__
    return False
