"""Labels for the router: a profile joined with its prompts, as one row a prompt.

A prompt counts where both tiers were judged. The joining key is the prompt's digest; the texts stay
in the prompts file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hooks.request import read_request
from hooks.router.artefact import Side, Source
from hooks.values import InvalidRequest
from scripts.profile.records import Header, Profile, PromptLine, read_profile, read_prompts
from scripts.router.training import Floats, Ints, Texts, read_texts

TIERS = ("execute", "generate", "reason")
UNCLASSIFIED = "unclassified"


class LabelError(ValueError):
    """A profile and prompts that give no labels; the text says what is missing and what to do."""


@dataclass(frozen=True)
class Labels:
    """The labelled prompts. `cheap` and `strong` are 1 where that tier passed, `tasks` numbers of
    `names`; costs are mean nanodollars a request where the profile has them."""

    source: Source
    sides: tuple[Side, Side]
    names: tuple[str, ...]
    tasks: Ints
    texts: Texts
    prompts: tuple[str, ...]
    cheap: Floats
    strong: Floats
    lengths: Ints
    digests: tuple[str, ...]
    costs: tuple[float, float]

    @property
    def count(self) -> int:
        """How many prompts are labelled."""
        return len(self.cheap)


def read_labels(
    profile_file: Path, prompts_file: Path, cheap: str | None = None, strong: str | None = None
) -> Labels:
    """Read both files and join them; without names, the lowest and the highest tier are taken.

    Raises:
        RecordError: a file cannot be read, or a line in it is wrong.
        LabelError: the profile has not two tiers, or no prompt has an answer of both.
    """
    profile = read_profile(profile_file)
    sides = _tiers(profile.header, cheap, strong)
    prompts = {prompt.digest: prompt for prompt in read_prompts(prompts_file)}
    found = {record.key: record for record in profile.counted}
    rows: list[tuple[PromptLine, str, bool, bool, int, int, int]] = []
    unknown = 0
    digests = sorted({digest for digest, _ in found})
    for digest in digests:
        low = found.get((digest, sides[0].tier))
        high = found.get((digest, sides[1].tier))
        if low is None or high is None:
            continue
        prompt = prompts.get(digest)
        if prompt is None:
            unknown += 1
            continue
        rows.append(
            (prompt, high.task_type or UNCLASSIFIED, low.passed, high.passed, high.input_tokens,
             low.cost_nano_usd, high.cost_nano_usd)
        )  # fmt: skip
    if not rows:
        why = f"{unknown:,} prompts of it are not in {prompts_file}" if unknown else "it is empty"
        raise LabelError(
            f"{profile_file}: no prompt is judged on both {sides[0].tier} and {sides[1].tier}: "
            f"{why}"
        )
    return _labels(profile, sides, rows)


def _tiers(header: Header, cheap: str | None, strong: str | None) -> tuple[Side, Side]:
    there = [tier for tier in TIERS if tier in header.tiers]
    low, high = cheap or there[0], strong or there[-1]
    for name in (low, high):
        if name not in there:
            raise LabelError(f"the profile has no tier {name}; it has {', '.join(there)}")
    if TIERS.index(low) >= TIERS.index(high):
        raise LabelError(
            f"the profile needs two tiers to route between, the cheaper one first; it has "
            f"{', '.join(there)}"
        )
    return _side(header, low), _side(header, high)


def _side(header: Header, tier: str) -> Side:
    for name, it in header.tiers.items():
        if name == tier:
            prices = sorted((price.input, price.output) for price in it.prices)
            return Side(
                tier=tier,
                group=it.group,
                models=tuple(sorted(set(it.models))),
                prices=tuple(dict.fromkeys(prices)),
            )
    raise LabelError(f"the profile has no tier {tier}")


def user_text(prompt: PromptLine) -> tuple[str, int, int]:
    """Return what the proxy would score of a prompt, its turns and its characters."""
    try:
        body = {"model": "auto", "messages": prompt.as_messages()}
        view = read_request(body, "acompletion")
    except InvalidRequest:
        text = prompt.text()
        return text, 1, len(text)
    return view.last_user_text, max(1, view.turns), view.chars


def _labels(
    profile: Profile,
    sides: tuple[Side, Side],
    rows: Sequence[tuple[PromptLine, str, bool, bool, int, int, int]],
) -> Labels:
    seen = [user_text(row[0]) for row in rows]
    names = tuple(sorted({row[1] for row in rows}))
    number = {name: index for index, name in enumerate(names)}
    cheap = np.array([float(row[2]) for row in rows])
    strong = np.array([float(row[3]) for row in rows])
    content = profile.path.read_bytes()
    return Labels(
        source=Source(
            name=profile.header.name,
            sha256=hashlib.sha256(content).hexdigest(),
            labels=len(rows),
            turns_max=max(turns for _, turns, _ in seen),
            chars_max=max(1, *(chars for _, _, chars in seen)),
            cheap_pass_rate=float(cheap.mean()),
            strong_pass_rate=float(strong.mean()),
        ),
        sides=sides,
        names=names,
        tasks=np.array([number[row[1]] for row in rows], dtype=np.int64),
        texts=read_texts([text for text, _, _ in seen]),
        prompts=tuple(text for text, _, _ in seen),
        cheap=cheap,
        strong=strong,
        lengths=np.array([row[4] for row in rows], dtype=np.int64),
        digests=tuple(row[0].digest for row in rows),
        costs=(float(np.mean([row[5] for row in rows])), float(np.mean([row[6] for row in rows]))),
    )
