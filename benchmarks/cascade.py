"""Cost against quality of routing and cascades, on what real models answered.

    python -m benchmarks.cascade FILE             prints the table
    python -m benchmarks.cascade FILE --write     writes benchmarks/results/cascade.json as well

FILE is `zeroeval_dev.jsonl.gz`: 1,448 prompts (CRUX, MATH level 5, GSM8K) with, for 15 models,
whether each answer was right and how many characters it had. Nothing is sent.

The answers themselves are not in the data, only whether they were right. Two that are right agree,
and one right and one wrong do not. Whether two wrong ones agree is not known, so agreement is
reported at both ends: never (every such prompt goes up) and always (none does). The truth lies
between them.

Tokens are characters by four. Prices are those of LiteLLM's map where it still has the model; it
has dropped two, whose prices of 2024 stand below. A routing is fitted on one half of the prompts
and applied to the other, and the other way round.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results" / "cascade.json"
CHARS_PER_TOKEN = 4
FLOOR = 0.95
"""Routing takes the cheap model where it has this part of the strong one's rate."""

STRONG, FIRST = "gpt-4o-2024-08-06", "gpt-4o-mini-2024-07-18"
SECONDS = ("gemini-1.5-flash", "claude-3-haiku-20240307", "claude-3-5-haiku-20241022")
STATED_USD_PER_MILLION = {
    # The publishers' lists of late 2024, from memory of them; not opened again.
    "gemini-1.5-flash": (0.075, 0.30),
    "claude-3-haiku-20240307": (0.25, 1.25),
}

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one prompt came to: whether the served answer was right, and what all sends cost."""

    right: int
    usd: float
    escalated: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """A strategy over all prompts. Shares are of the strong model's figure for all of them.

    `difference` is in the rate of right answers against the strong model alone, paired, with the
    half width of its 95 % interval.
    """

    strategy: str
    rate: float
    difference: float
    half_width: float
    cost_share: float
    escalated: float


class Data:
    """The prompts with their answers' marks and costs."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows
        self.prices = {model: price_of(model) for model in (STRONG, FIRST, *SECONDS)}

    def right(self, row: Row, model: str) -> int:
        return int(row[f"correct|{model}"])

    def usd(self, row: Row, model: str) -> float:
        price_in, price_out = self.prices[model]
        tokens_in = len(row["prompt"]) / CHARS_PER_TOKEN
        return tokens_in * price_in + row[f"outchars|{model}"] / CHARS_PER_TOKEN * price_out

    def alone(self, row: Row, model: str) -> Outcome:
        return Outcome(self.right(row, model), self.usd(row, model))

    def agreement(self, row: Row, second: str, wrongs_agree: bool) -> Outcome:
        """Two cheap models; where they agree the first one's answer, else the strong one's."""
        one, other = self.right(row, FIRST), self.right(row, second)
        usd = self.usd(row, FIRST) + self.usd(row, second)
        if (one and other) or (not one and not other and wrongs_agree):
            return Outcome(one, usd)
        return Outcome(self.right(row, STRONG), usd + self.usd(row, STRONG), True)

    def checked(self, row: Row) -> Outcome:
        """A cheap model with a gate that knows: unit tests, a schema, a sum that must come out."""
        if self.right(row, FIRST):
            return self.alone(row, FIRST)
        usd = self.usd(row, FIRST) + self.usd(row, STRONG)
        return Outcome(self.right(row, STRONG), usd, True)


def price_of(model: str) -> tuple[float, float]:
    """Return US dollars a token, in and out."""
    if model in STATED_USD_PER_MILLION:
        price_in, price_out = STATED_USD_PER_MILLION[model]
        return price_in / 1e6, price_out / 1e6
    import litellm

    names = (model, f"anthropic.{model}-v1:0")
    entry = next(litellm.model_cost[name] for name in names if name in litellm.model_cost)
    return float(entry["input_cost_per_token"]), float(entry["output_cost_per_token"])


def cheap_task_types(data: Data, rows: Sequence[Row]) -> frozenset[str]:
    """Return the task types in which the cheap model reaches the floor, on these rows."""
    found = set()
    for task_type in {row["bench"] for row in rows}:
        own = [row for row in rows if row["bench"] == task_type]
        cheap = sum(data.right(row, FIRST) for row in own)
        strong = sum(data.right(row, STRONG) for row in own)
        if cheap >= FLOOR * strong:
            found.add(task_type)
    return frozenset(found)


def strategies(data: Data) -> dict[str, Callable[[Row], Outcome]]:
    """Return what each strategy does with a prompt."""
    halves = [data.rows[::2], data.rows[1::2]]
    fitted = [cheap_task_types(data, half) for half in halves]
    # A prompt is routed by what the other half of them says.
    cheap = {id(row): fitted[1 - place] for place, half in enumerate(halves) for row in half}

    def routed(row: Row, otherwise: Callable[[Row], Outcome]) -> Outcome:
        if row["bench"] in cheap[id(row)]:
            return data.alone(row, FIRST)
        return otherwise(row)

    def strong(row: Row) -> Outcome:
        return data.alone(row, STRONG)

    found: dict[str, Callable[[Row], Outcome]] = {
        "no routing, strong": strong,
        "no routing, cheap": lambda row: data.alone(row, FIRST),
        "routing by task type": lambda row: routed(row, strong),
    }

    def agreement(second: str, agree: bool) -> Callable[[Row], Outcome]:
        return lambda row: data.agreement(row, second, agree)

    for second in SECONDS:
        for agree, word in ((False, "never"), (True, "always")):
            step = agreement(second, agree)
            note = f"{second}, two wrong answers {word} agree"
            found[f"cascade, agreement with {note}"] = step
            found[f"both, agreement with {note}"] = lambda row, step=step: routed(row, step)  # type: ignore[misc]  # binds this step
    found["cascade, a gate that knows"] = data.checked
    found["both, a gate that knows"] = lambda row: routed(row, data.checked)
    return found


def measure(data: Data) -> list[Line]:
    """Return a line for each strategy."""
    made = strategies(data)
    base = [made["no routing, strong"](row) for row in data.rows]
    whole = sum(it.usd for it in base)
    lines = []
    count = len(data.rows)
    for name, strategy in made.items():
        found = [strategy(row) for row in data.rows]
        differences = [it.right - b.right for it, b in zip(found, base, strict=True)]
        mean = sum(differences) / count
        spread = math.sqrt(sum((d - mean) ** 2 for d in differences) / (count - 1) / count)
        lines.append(
            Line(
                strategy=name,
                rate=round(sum(it.right for it in found) / count, 4),
                difference=round(mean, 4),
                half_width=round(1.96 * spread, 4),
                cost_share=round(sum(it.usd for it in found) / whole, 4),
                escalated=round(sum(it.escalated for it in found) / count, 4),
            )
        )
    return lines


def break_even(lines: Sequence[Line], second: str) -> dict[str, float]:
    """Return which share of wrong pairs may agree until the strong model is better, and the cost.

    Rate and cost fall in a straight line from the one end to the other.
    """
    ends = [
        next(it for it in lines if it.strategy.startswith(f"cascade, agreement with {second}, ")
             and it.strategy.endswith(f"{word} agree"))
        for word in ("never", "always")
    ]  # fmt: skip
    share = ends[0].difference / (ends[0].difference - ends[1].difference)
    cost = ends[0].cost_share + share * (ends[1].cost_share - ends[0].cost_share)
    return {"wrong_pairs_that_agree": round(share, 3), "cost_share": round(cost, 4)}


def read(path: Path) -> Data:
    """Read the prompts that all models in question have answered."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    needed = (STRONG, FIRST, *SECONDS)
    return Data([r for r in rows if all(r[f"correct|{model}"] is not None for model in needed)])


def main() -> None:
    """Measure and print; with `--write` keep the figures."""
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("file", type=Path)
    arguments.add_argument("--write", action="store_true")
    given = arguments.parse_args()
    data = read(given.file)
    lines = measure(data)
    print(f"{len(data.rows)} prompts")
    for it in lines:
        print(
            f"{it.rate:6.1%} ({it.difference:+.1%} ± {it.half_width:.1%})  "
            f"cost {it.cost_share:6.1%}  escalated {it.escalated:5.1%}  {it.strategy}"
        )
    even = {second: break_even(lines, second) for second in SECONDS}
    for second, it in even.items():
        print(
            f"as good as {STRONG} with {second} while {it['wrong_pairs_that_agree']:.0%} of wrong "
            f"pairs agree, then at {it['cost_share']:.0%} of its cost"
        )
    if given.write:
        document = {
            "data": given.file.name,
            "prompts": len(data.rows),
            "strong": STRONG,
            "first": FIRST,
            "usd_per_token": data.prices,
            "break_even": even,
            "lines": [asdict(line) for line in lines],
        }
        RESULTS.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
