"""Which groups of a LiteLLM configuration have the key of their provider, and which have not.

Reads the file as LiteLLM would, but loads nothing of LiteLLM: this runs before every start.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

KEY_VARIABLES: Mapping[str, tuple[str, ...]] = {
    "anthropic": ("ANTHROPIC_API_KEY",),
    "azure": ("AZURE_API_KEY",),
    "cohere": ("COHERE_API_KEY",),
    "deepseek": ("DEEPSEEK_API_KEY",),
    "gemini": ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
    "groq": ("GROQ_API_KEY",),
    "minimax": ("MINIMAX_API_KEY",),
    "mistral": ("MISTRAL_API_KEY",),
    "openai": ("OPENAI_API_KEY",),
    "openrouter": ("OPENROUTER_API_KEY",),
    "text-completion-openai": ("OPENAI_API_KEY",),
    "together_ai": ("TOGETHERAI_API_KEY",),
    "xai": ("XAI_API_KEY",),
}
"""The variables that LiteLLM reads a provider's key from; any one of them is enough."""

_BARE_NAMES = {"claude": "anthropic", "gemini": "gemini"}
_REFERENCE = "os.environ/"


class ConfigFileError(ValueError):
    """The LiteLLM configuration cannot be read; the text says where and why."""


class KeyState(Enum):
    """Whether a group can reach its provider."""

    PRESENT = "live key"
    MISSING = "no key"
    OWN = "own credentials"
    """No API key to look for: a server on this machine, or a provider with another log-in."""


@dataclass(frozen=True, slots=True)
class Group:
    """One group of the configuration, with all of its deployments."""

    name: str
    models: tuple[str, ...]
    state: KeyState
    missing: tuple[str, ...]
    """What to set, one text a missing key, such as `GEMINI_API_KEY or GOOGLE_API_KEY`."""


def read_groups(config: Path, environ: Mapping[str, str]) -> tuple[Group, ...]:
    """Return the groups in the file's order. A group lacks its key if one deployment does.

    Raises `ConfigFileError`.
    """
    deployments: dict[str, list[Mapping[str, Any]]] = {}
    for position, entry in enumerate(_model_list(config)):
        parameters = entry.get("litellm_params") if isinstance(entry, dict) else None
        if not isinstance(parameters, dict) or not isinstance(parameters.get("model"), str):
            raise ConfigFileError(
                f"{config}: entry {position + 1} of model_list has no litellm_params.model."
            )
        deployments.setdefault(str(entry.get("model_name")), []).append(parameters)
    return tuple(_group(name, entries, environ) for name, entries in deployments.items())


def _model_list(config: Path) -> list[Any]:
    try:
        content = yaml.safe_load(config.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigFileError(
            f"Cannot read {config}: {error.strerror}. Name the file with --config."
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or "it is not UTF-8 text"
        raise ConfigFileError(f"{config}{line}: this is no valid YAML: {problem}.") from error
    models = content.get("model_list") if isinstance(content, dict) else None
    if not isinstance(models, list) or not models:
        raise ConfigFileError(f"{config}: model_list is missing or empty.")
    return models


def _group(name: str, entries: list[Mapping[str, Any]], environ: Mapping[str, str]) -> Group:
    states = [_state(entry, environ) for entry in entries]
    missing = tuple(dict.fromkeys(what for state, what in states if state is KeyState.MISSING))
    if missing:
        state = KeyState.MISSING
    elif all(state is KeyState.OWN for state, _ in states):
        state = KeyState.OWN
    else:
        state = KeyState.PRESENT
    models = tuple(dict.fromkeys(str(entry["model"]) for entry in entries))
    return Group(name, models, state, missing)


def _state(parameters: Mapping[str, Any], environ: Mapping[str, str]) -> tuple[KeyState, str]:
    """Return a deployment's state and, where its key is missing, what to set."""
    known = KEY_VARIABLES.get(_provider(parameters), ())
    key = parameters.get("api_key")
    if isinstance(key, str) and key and not key.startswith(_REFERENCE):
        return KeyState.PRESENT, ""
    if isinstance(key, str) and key:
        named = key.removeprefix(_REFERENCE)
        # LiteLLM takes a provider's second variable where the first is not set.
        variables = known if named in known else (named,)
    elif _is_on_this_machine(_value(parameters.get("api_base"), environ)) or not known:
        return KeyState.OWN, ""
    else:
        variables = known
    if any(environ.get(variable) for variable in variables):
        return KeyState.PRESENT, ""
    if _is_on_this_machine(_value(parameters.get("api_base"), environ)):
        return KeyState.OWN, ""
    return KeyState.MISSING, " or ".join(variables)


def _provider(parameters: Mapping[str, Any]) -> str:
    given = parameters.get("custom_llm_provider")
    if isinstance(given, str) and given:
        return given
    prefix, slash, _ = str(parameters["model"]).partition("/")
    if slash:
        return prefix
    return next((name for start, name in _BARE_NAMES.items() if prefix.startswith(start)), "openai")


def _value(setting: object, environ: Mapping[str, str]) -> str:
    if not isinstance(setting, str):
        return ""
    if setting.startswith(_REFERENCE):
        return environ.get(setting.removeprefix(_REFERENCE), "")
    return setting


def _is_on_this_machine(address: str) -> bool:
    try:
        host = urlsplit(address).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
