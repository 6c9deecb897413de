"""What a model costs: rates in nanodollars a token, read from LiteLLM's price map format.

Rates are exact decimals from the first character on: JSON numbers are parsed as Decimal, and a
float that a caller passes is taken at its shortest decimal form.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from pathlib import Path
from typing import Any

from scripts.simulator.tokens import litellm_folder

PRICE_FILE_NAME = "model_prices_and_context_window_backup.json"
NANO_PER_USD = 10**9
# When several providers list one bare name, the maker's own entry is the one that is meant.
FIRST_PARTY_PROVIDERS = ("openai", "anthropic", "gemini", "minimax", "mistral", "deepseek", "xai")
_THRESHOLD = re.compile(r"^(?P<base>\w+?)_above_(?P<size>\d+)(?P<kilo>k?)_tokens$")


class PriceFileError(ValueError):
    """A price file that cannot be used; the text names the file, the place and the remedy."""


@dataclass(frozen=True)
class Rates:
    """Nanodollars a token, for each kind of token."""

    input: Decimal
    output: Decimal
    cache_read: Decimal
    cache_write: Decimal
    reasoning: Decimal


@dataclass(frozen=True)
class Price:
    """A model's rates, with dearer ones for prompts above a size, where the map has such."""

    base: Mapping[str, Decimal]
    above: tuple[tuple[int, Mapping[str, Decimal]], ...]

    def rates(self, prompt_tokens: int) -> Rates:
        """The rates for a prompt of this size (cached tokens included), as LiteLLM picks them."""
        usd = dict(self.base)
        for threshold_tokens, dearer in self.above:
            if prompt_tokens > threshold_tokens:
                usd |= dearer
        plain = usd.get("input_cost_per_token", Decimal(0))
        output = usd.get("output_cost_per_token", Decimal(0))

        def nano(key: str, default: Decimal) -> Decimal:
            return usd.get(key, default) * NANO_PER_USD

        return Rates(
            input=plain * NANO_PER_USD,
            output=output * NANO_PER_USD,
            # A provider that publishes no cache price bills such tokens as ordinary input.
            cache_read=nano("cache_read_input_token_cost", plain),
            cache_write=nano("cache_creation_input_token_cost", plain),
            reasoning=nano("output_cost_per_reasoning_token", output),
        )


_RATE_KEYS = (
    "input_cost_per_token",
    "output_cost_per_token",
    "cache_read_input_token_cost",
    "cache_creation_input_token_cost",
    "output_cost_per_reasoning_token",
)


def _decimal(value: object) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        return None
    try:
        rate = Decimal(str(value))
    except InvalidOperation:
        return None
    return rate if rate.is_finite() and rate >= 0 else None


def read_price(entry: Mapping[str, object]) -> Price | None:
    """A model's price, or None where the entry prices no tokens."""
    base = {key: rate for key in _RATE_KEYS if (rate := _decimal(entry.get(key))) is not None}
    if "input_cost_per_token" not in base and "output_cost_per_token" not in base:
        return None
    above: dict[int, dict[str, Decimal]] = {}
    for key, value in entry.items():
        match = _THRESHOLD.match(key)
        if match is None or match["base"] not in _RATE_KEYS:
            continue
        rate = _decimal(value)
        if rate is None:
            continue
        threshold_tokens = int(match["size"]) * (1000 if match["kilo"] else 1)
        above.setdefault(threshold_tokens, {})[match["base"]] = rate
    return Price(base, tuple(sorted(above.items(), key=lambda pair: pair[0])))


class PriceBook:
    """Finds a model's price under any of the names that a request may use for it."""

    def __init__(self, entries: Mapping[str, Mapping[str, object]]) -> None:
        self._entries = entries
        self._by_bare_name: dict[str, list[str]] = {}
        for name in entries:
            self._by_bare_name.setdefault(name.rsplit("/", 1)[-1], []).append(name)
        self._find = lru_cache(maxsize=10_000)(self._find_uncached)

    def find(self, model: str, provider: str = "") -> Price | None:
        """The price of `model`; `provider` is the maker that the dialect suggests."""
        return self._find(model, provider)

    def _find_uncached(self, model: str, provider: str) -> Price | None:
        names = [f"{provider}/{model}", model]
        rest = model
        while "/" in rest:
            rest = rest.split("/", 1)[1]
            names += [f"{provider}/{rest}", rest]
        names += [f"{maker}/{rest}" for maker in FIRST_PARTY_PROVIDERS]
        for name in names:
            if name in self._entries and (price := read_price(self._entries[name])) is not None:
                return price
        others = [read_price(self._entries[name]) for name in self._by_bare_name.get(rest, ())]
        known = [price for price in others if price is not None]
        # Resellers that disagree leave the price unknown: a guess would be a wrong ground truth.
        return known[0] if known and all(price == known[0] for price in known) else None


def bundled_prices() -> dict[str, dict[str, Any]]:
    """LiteLLM's bundled price map, from the package's folder, without importing LiteLLM."""
    folder = litellm_folder()
    if folder is None:
        raise PriceFileError("No price map: LiteLLM is not installed. Install it or pass --prices.")
    return read_price_file(folder / PRICE_FILE_NAME)


def read_price_file(path: Path) -> dict[str, dict[str, Any]]:
    """A JSON file of model name -> rates in USD a token, with the keys of LiteLLM's map."""
    try:
        prices = json.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
    except OSError as error:
        raise PriceFileError(f"Cannot read the price file {path}: {error.strerror}.") from error
    except ValueError as error:
        raise PriceFileError(f"The price file {path} is not JSON: {error}.") from error
    if not isinstance(prices, dict) or not all(isinstance(v, dict) for v in prices.values()):
        raise PriceFileError(
            f'The price file {path} must be an object like {{"gpt-4o": '
            '{"input_cost_per_token": 2.5e-06, "output_cost_per_token": 1e-05}}.'
        )
    for model, entry in prices.items():
        for key in _RATE_KEYS:
            if entry.get(key) is not None and _decimal(entry[key]) is None:
                raise PriceFileError(
                    f"{path}: {key} of {model!r} is {entry[key]!r}; it must be USD a token, "
                    "a number of at least 0."
                )
    return prices
