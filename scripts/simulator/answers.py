"""What the simulator answers: believable in length and kind, the same for the same prompt.

The length follows the kind of work that the prompt asks for, ±20 % by the prompt's hash. The text
says in its first sentence that it is simulated. A behaviour can fix every figure.
"""

import hashlib
import re
from collections.abc import Sequence
from functools import cache

from scripts.simulator.ask import Ask, Choice, Finish, Plan, compact_json
from scripts.simulator.billing import Usage
from scripts.simulator.jsonfit import fitting
from scripts.simulator.script import Behaviour
from scripts.simulator.tokens import tokeniser

EVENTS_PER_STREAM_USUAL = 64

_REVIEW = re.compile(
    r"\b(review|architect\w*|trade-?offs?|design|security|audit|root cause|threat|adr|"
    r"vulnerab\w*|migration plan|evaluate)\b",
    re.IGNORECASE,
)
_CODE = re.compile(
    r"```|\b(implement|write|generate|refactor|code|function|class|script|sql|endpoint|unit tests?|"
    r"module|connector)\b",
    re.IGNORECASE,
)
_PROSE = re.compile(
    r"\b(summari[sz]e|summary|explain|document\w*|changelog|describe|compare|why)\b", re.IGNORECASE
)

# Every sentence starts with a space and a letter and ends in a full stop, so that sentences
# tokenise alike alone and joined.
_OPENING = "This is a simulated answer: no model was called."
_TALK = (
    " The short version is that the request looks sound and can be done as it stands."
    " Start with the smallest change that shows the effect, then widen it step by step."
    " Keep the names that the rest of the project uses, so that a reader finds them again."
    " Check the result against one known case before you trust it on the others."
    " Where two ways are equal in effect, take the one that is easier to undo."
)
_REVIEW_TALK = (
    " The main risk is a state that two writers can change at the same time."
    " The first option is simple to run, but it ties both parts to one release."
    " The second option costs one more service, and in return each part can fail alone."
    " Input from outside crosses a boundary here and should be checked before it is stored."
    " The order of the two writes matters, because a crash between them loses the second."
    " A limit on the queue is missing, so that a slow reader could fill the memory."
    " Measure the common path first, since the rare one hides behind it."
    " The decision should be written down with its reasons and with what would change it."
)
_CODE_TALK = (
    " Here is a version that does it, with the checks at the edge.\n"
    "```python\n"
    "def load_rows(source, limit):\n"
    "    rows = []\n"
    "    for row in source:\n"
    "        if not row.is_valid():\n"
    "            continue\n"
    "        rows.append(row)\n"
    "        if len(rows) >= limit:\n"
    "            break\n"
    "    return rows\n"
    "```\n"
    "It reads until the limit, skips rows that are not valid, and keeps the order of the source."
)


@cache
def _pieces(text: str) -> tuple[str, ...]:
    return tuple(tokeniser().pieces(text))


def usual_length(text: str) -> tuple[int, str]:
    """The usual output of this kind of work in tokens, and the text that it is made of."""
    if _REVIEW.search(text):
        return 900, _REVIEW_TALK
    if _CODE.search(text):
        return 500, _CODE_TALK
    if _PROSE.search(text):
        return 250, _TALK
    return 60, _TALK


def _text_pieces(talk: str, tokens: int) -> Sequence[str]:
    pieces = list(_pieces(_OPENING))
    block = _pieces(talk)
    missing = max(tokens - len(pieces), 0)
    pieces.extend(block * (missing // len(block) + 1))
    return pieces[:tokens]


def plan_answer(
    ask: Ask, behaviour: Behaviour, arrival: int, now_unix_s: int, cached_apart: bool
) -> Plan:
    """Decide the whole answer. `cached_apart`: the dialect keeps cached tokens out of its input
    figure, so that the behaviour's `prompt_tokens` excludes them (Anthropic)."""
    digest = hashlib.sha256(f"{ask.model}\n{ask.text}".encode(errors="replace")).digest()
    reasoning = behaviour.reasoning_tokens or 0
    if ask.embeds:
        choices: list[Choice] = []
        generated = reported = reasoning = 0
    else:
        choices = _choices(ask, behaviour, digest, reasoning)
        generated = sum(len(choice.pieces) for choice in choices) + reasoning
        structured = ask.tool is not None or ask.json_schema is not None
        # JSON cannot be cut to a length and stay JSON: there the report follows the behaviour.
        asked = behaviour.output_tokens if structured else None
        cut = asked is not None and asked > (ask.output_tokens_max or asked)
        reported = generated if asked is None or cut else asked
    streamed = max(generated - reasoning, 1)
    slow = behaviour.token_delay_ms is not None or behaviour.die_after_tokens is not None
    return Plan(
        id=hashlib.sha256(digest + str(arrival).encode()).hexdigest()[:24],
        created=now_unix_s,
        model=behaviour.model or ask.model,
        choices=choices,
        usage=_usage(ask, behaviour, max(reported, reasoning), reasoning, cached_apart),
        usage_reported=ask.usage_wanted and behaviour.usage != "none",
        usage_counted=Usage(ask.prompt_tokens, generated, reasoning_tokens=reasoning),
        pieces_per_event=1 if slow else -(-streamed // EVENTS_PER_STREAM_USUAL),
    )


def _choices(ask: Ask, behaviour: Behaviour, digest: bytes, reasoning: int) -> list[Choice]:
    limit = ask.output_tokens_max
    visible_max = max(limit - reasoning, 0) if limit is not None else None
    if ask.tool is not None or ask.json_schema is not None:
        schema = ask.tool.schema if ask.tool else ask.json_schema or {}
        value = fitting(schema) if schema or not ask.tool else {}
        whole = tokeniser().pieces(compact_json(value))
        wanted = [len(whole)] * ask.choices
    elif behaviour.say is not None:
        whole = tokeniser().pieces(behaviour.say.replace("-", " "))
        wanted = [len(whole)] * ask.choices
    else:
        usual, talk = usual_length(ask.text)
        # Three bytes of the hash spread the length evenly over ±20 %.
        spread = int.from_bytes(digest[:3], "big") / 0xFFFFFF
        if behaviour.output_tokens is None:
            wanted = [round(usual * (0.8 + 0.4 * spread))] * ask.choices
        else:
            visible = max(behaviour.output_tokens - reasoning, 0)
            share, rest = divmod(visible, ask.choices)
            wanted = [share + (index < rest) for index in range(ask.choices)]
        whole = _text_pieces(talk, max(wanted))
    choices = []
    for tokens in wanted:
        cut = visible_max is not None and tokens > visible_max
        finish: Finish = "length" if cut else "tool" if ask.tool else "stop"
        if behaviour.finish is not None:
            finish = behaviour.finish  # type: ignore[assignment]  # checked when it was read
        pieces = whole[: visible_max if cut else tokens]
        choices.append(Choice(pieces, finish, ask.tool.name if ask.tool else None))
    return choices


def _usage(
    ask: Ask, behaviour: Behaviour, output: int, reasoning: int, cached_apart: bool
) -> Usage:
    cached = behaviour.cached_tokens or 0
    written = behaviour.cache_write_tokens or 0
    if behaviour.prompt_tokens is not None and cached_apart:
        plain = behaviour.prompt_tokens
    else:
        total = ask.prompt_tokens if behaviour.prompt_tokens is None else behaviour.prompt_tokens
        plain = max(total - cached - written, 0)
    return Usage(plain, output, cached, written, reasoning)
