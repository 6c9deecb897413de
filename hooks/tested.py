"""Which release of LiteLLM may run: asked by `serve` and `doctor`, and by the hook at its start.

Needs the standard library only. The releases of `LITELLM_COMPROMISED` ran their malicious code when
they were imported, 1.82.8 whenever its Python started: whoever finds one here finds it late. What
keeps them out is the exact version in pyproject.toml and the digests of requirements.lock.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

LITELLM_TESTED = "1.106.2"
"""The one release that Farebox is tested with."""

LITELLM_COMPROMISED = {
    "1.82.7": "carried a credential stealer",
    "1.82.8": "carried a credential stealer",
    "1.107.0": "is reported to be compromised",
}

CLEAN_UP = (
    "Stop it, rotate every secret that this machine could read, and make the environment anew."
)
INSTALL = (
    f"Install litellm[proxy]=={LITELLM_TESTED}, with its digest: pip install --require-hashes -r "
    "requirements.lock; ./scripts/serve does that in an environment of its own."
)


class UnfitLiteLLM(Exception):
    """The installed LiteLLM must not be used; the text says why and what to do."""


def installed() -> str | None:
    """Return the installed release, None if there is none. Nothing of LiteLLM is imported."""
    try:
        return version("litellm")
    except PackageNotFoundError:
        return None


def check(found: str | None) -> None:
    """Raise `UnfitLiteLLM` unless `found` is the tested release."""
    if found == LITELLM_TESTED:
        return
    if found is None:
        raise UnfitLiteLLM(f"LiteLLM is not installed. {INSTALL}")
    if found in LITELLM_COMPROMISED:
        raise UnfitLiteLLM(
            f"LiteLLM {found} is installed, which {LITELLM_COMPROMISED[found]}. {CLEAN_UP} "
            f"{INSTALL}"
        )
    raise UnfitLiteLLM(
        f"LiteLLM {found} is installed, and Farebox is tested with {LITELLM_TESTED} only: another "
        f"release can charge or route differently without a word. {INSTALL}"
    )
