"""Every command of the README and of the how-to pages works, and shows what the page promises.

One proxy serves all pages. Before each page the policy's files are as the repository has them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.docs.blocks import Block, blocks_of
from tests.docs.walk import ROOT, Walk

README = ROOT / "README.md"
HOW_TO = sorted((ROOT / "docs" / "how-to").glob("*.md"))
DOCUMENTS = sorted([README, *(ROOT / "docs").rglob("*.md")])
# A start and some thirty commands: under a minute on two cores, and bounded on a busy machine.
pytestmark = pytest.mark.timeout(600)

LINK = re.compile(r"\]\((?!https?:)(?P<target>[^)#\s]*)(?:#(?P<anchor>[^)\s]+))?\)")


# ── what the pages promise ───────────────────────────────────────────────────────────────────────


def _status_line(printed: str) -> str:
    return printed.splitlines()[0]


def _body(printed: str) -> dict[str, object]:
    found = json.loads(printed.replace("\r\n", "\n").partition("\n\n")[2])
    assert isinstance(found, dict)
    return found


def _curl(printed: str) -> None:
    assert " 200 " in _status_line(printed)
    assert "x-farebox-category: FAST" in printed
    assert "x-farebox-task-type: config_edit_formatting" in printed
    assert "x-farebox-model: gemini-flash" in printed
    assert "x-farebox-simulated: true" in printed
    assert _body(printed)["choices"]


def _sdk(printed: str) -> None:
    for line in (
        "x-farebox-task-type: security_review",
        "x-farebox-category: HIGH_COMPLEX",
        "x-farebox-model: claude-opus",
        "x-farebox-estimated-cost: 0.024",
        "x-farebox-budget-remaining: 49.",
        "x-farebox-decision: ",
        "x-farebox-mode: enforce",
        "x-farebox-simulated: true",
    ):
        assert line in printed, printed


def _status(printed: str) -> None:
    """The two requests so far: one in FAST, one in HIGH_COMPLEX."""
    for category, requests in (("FAST", 1), ("HIGH_COMPLEX", 1), ("all", 2)):
        assert re.search(rf"^ {category} +{requests} ", printed, re.M), printed


def _explain(printed: str) -> None:
    assert "goes to claude-sonnet" in printed
    assert "summarization" in printed
    assert re.search(r"gpt-4o-mini +dropped +.*quality: needs", printed), printed


def _refused(printed: str) -> None:
    assert " 402 " in _status_line(printed)
    assert "x-farebox-code: budget_exceeded" in printed
    error = _body(printed)["error"]
    assert isinstance(error, dict)
    assert error["code"] == "budget_exceeded"
    detail = error["farebox"]
    assert (detail["budget"], detail["limit"], detail["held"]) == ("FAST", "0.0001", "0")
    assert float(detail["spent"]) > 0
    assert float(detail["requested"]) > 0
    assert detail["resets_at"] and detail["next_step"]


def _tail(printed: str) -> None:
    assert "settled" in printed
    assert "refused" in printed and "budget_exceeded" in printed


def _verify(printed: str) -> None:
    assert "The ledger agrees with itself." in printed


def _anthropic(printed: str) -> None:
    assert printed.splitlines()[-1] == "gemini-flash lookup_retrieval"


def _demo(printed: str) -> None:
    for word in ("FAST", "NORMAL", "COMPLEX", "HIGH_COMPLEX", "budget_exceeded", "Total $"):
        assert word in printed


def _has(*words: str) -> Callable[[str], None]:
    def check(printed: str) -> None:
        for word in words:
            assert word in printed, printed

    return check


def _router_calibrate(printed: str) -> None:
    assert "lookup_retrieval" in printed and "code_generation" in printed
    assert re.search(r"^ lookup_retriev\S* +300 +100.0 %", printed, re.M), printed


def _shadow(printed: str) -> None:
    assert re.search(r"Would have rerouted +1 request", printed), printed
    assert "gemini-flash" in printed


def _queued(printed: str) -> None:
    assert " 202 " in _status_line(printed)
    assert "x-farebox-code: queued" in printed
    body = _body(printed)
    assert body["status"] == "queued" and body["choices"] == []


def _exported(printed: str) -> None:
    assert re.search(r"Wrote \d+ entries", printed), printed


def _approval_required(printed: str) -> None:
    assert " 402 " in _status_line(printed)
    assert "x-farebox-code: approval_required" in printed
    assert "approval_id" in printed


CHECKS: Mapping[str, Callable[[str], None]] = {
    "curl": _curl,
    "sdk": _sdk,
    "status": _status,
    "explain": _explain,
    "refused": _refused,
    "tail": _tail,
    "verify": _verify,
    "anthropic": _anthropic,
    "demo": _demo,
    "valid": _has("The configuration is valid."),
    "team-budgets": _has("team-a", "$20.00", "each-user", "$5.00"),
    "why-asked": _has("decision "),
    "why-told": _has("claude-sonnet", "It was settled"),
    "tried": _has("goes to gemini-flash", "floor FAST"),
    "migrated": _has("The configuration is valid.", "from-provider-openai", "$100.00 a day"),
    "task-type": _has("incident_report", "post-incident", "claude-sonnet"),
    "named-task-type": _has("documentation claude-sonnet"),
    "new-model": _has("“gpt-4o” goes to gpt-4o."),
    "new-limit": _has("$60.00 a month"),
    "queued": _queued,
    "queue-list": _has("1 wait", "nightly", "budget_exceeded"),
    "drained": _has(" 0 left, 0 dead."),
    "queue-answer": _has('"state": "done"', '"choices"', "simulated"),
    "withheld": _has(" 422 ", "quality_gate_failed", "none of the 3 labels", "claude-haiku"),
    "gated": _has("classification_intent", "100.0 %"),
    "router-train": _has("made-up@", "600 prompts of 2 task types"),
    "router-calibrate": _router_calibrate,
    "router-evaluate": _has("CPT50", "oracle", "router.html"),
    "shadow": _shadow,
    "keys": _has("bob", "revoked"),
    "exported": _exported,
    "granted": _has("FAST: $25.00 until", "left in"),
    "transferred": _has("COMPLEX to FAST: $10.00 until"),
    "grants": _has("release week", "many lookups", "$35.00 by grants and transfers in force"),
    "audit": _has("transfer", "COMPLEX to FAST: $10.00", "policy_edit"),
    "verify-trail": _has("lines are one chain"),
    "approval-required": _approval_required,
    "approvals-list": _has("dora / dora@example.org", "trial"),
    "approvals-show": _has("Likely cost", "Budget trial"),
    "approved": _has("Approved.", "3 calls that name it"),
    "approved-request": _has("HTTP/1.1 200", "x-farebox-category: FAST"),
    "exported-forms": _exported,
    "month-closed": _has("is closed.", "Snapshot: "),
    "carry": _has("The configuration is valid."),
    "month-report": _has("## Actual against budget", "No profile", "Wrote report.html"),
    "reconciled": _has("claude-haiku-4-5", "within 0.5 %"),
    "archive": _has("there is nothing to archive"),
    "rebuild": _has("The ledger agrees with itself: nothing was changed."),
    "alert-text": _has(
        "Warning: FAST has spent 80 %", "budget_exceeded", "farebox budget show FAST"
    ),
    "alert-sent": _has("ops: delivered", "A test message from Farebox"),
    "picked": _has("Claude Opus 5.5 (claude-opus), as HIGH_COMPLEX", "security_review"),
    "forecast-file": _has("165,000 requests a month", "all frontier", "The range: "),
    "audit-check": _has("has no task type `invoice_fields` yet", "operations.invoice_fields"),
    "checklist": _has("80 % context guard on", "are not met."),
    "profile-run": _has("This run sent 6", "farebox profile report prompts"),
    "profile-report": _has("nothing promised", "0 of 3"),
    "profile-apply": _has("Nothing to change."),
    "samples-added": _has("1 added to prompts.jsonl"),
    "agents-render": _has("created", "CLAUDE.md", "use-opus.md"),
    "agents-mismatch": _has("Model mismatch: this task is security_review", "claude-opus", "(3)"),
    "agents-next": _has(
        "Refactor the parser -> claude-sonnet", "Recommended model for next session: claude-opus"
    ),
    "packs-list": _has("anthropic", "mixed (in force)", "OLLAMA_API_BASE"),
    "packs-test": _has("3 of 3 tasks go to another model", "gpt-5.4-mini"),
    "orchestrate": _has("This is a simulated answer"),
    "client-curl": _has(" 200 ", "x-farebox-advice: mismatch=below", '"advice"'),
    "doctor-litellm": _has('"state": "ok"', '"detail": "1.106.2"'),
}


# ── the walk ─────────────────────────────────────────────────────────────────────────────────────


def _runnable(page: Path) -> list[Block]:
    return [block for block in blocks_of(page, ROOT) if block.verb != "not run"]


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walk]:
    """A reader whose proxy runs, started by the README's own command."""
    reader = Walk(tmp_path_factory.mktemp("docs"))
    try:
        (serving,) = (block for block in _runnable(README) if block.rest == "serve")
        reader.start(serving)
        yield reader
    finally:
        printed = reader.stop()
        assert "Stopped." in printed


def test_the_printed_curl_line_is_the_readmes(walk: Walk) -> None:
    (line,) = (line.strip() for line in walk.page.splitlines() if line.startswith("  curl "))
    (curl,) = (block for block in _runnable(README) if block.rest == "curl")
    shown = curl.text.strip().replace("4000", str(walk.port))
    key_file = walk.root / ".farebox" / "master_key"
    assert re.sub(r"\$\(cat [^)]+\)", "$(cat .farebox/master_key)", line) == shown
    assert str(key_file.name) in line


def test_the_readme_does_what_it_says(walk: Walk) -> None:
    for block in _runnable(README):
        if block.rest != "serve":
            _follow(walk, block)


@pytest.mark.parametrize("page", HOW_TO, ids=lambda page: page.stem)
def test_a_how_to_page_does_what_it_says(walk: Walk, page: Path) -> None:
    blocks = _runnable(page)
    if not blocks:
        pytest.skip("every block of the page says why it is not run")
    walk.restore()
    walk.shell(". .venv/bin/activate")
    for block in blocks:
        _follow(walk, block)
    walk.restore()


def _follow(walk: Walk, block: Block) -> None:
    try:
        printed = walk.run(block)
        if block.verb == "run" and (check := CHECKS.get(block.rest)) is not None:
            check(printed)
    except AssertionError as error:
        raise AssertionError(f"{block}: {error}") from error


# ── the pages themselves ─────────────────────────────────────────────────────────────────────────


def test_every_check_has_its_block() -> None:
    named = {block.rest for page in [README, *HOW_TO] for block in _runnable(page)}
    assert not set(CHECKS) - named


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for link in LINK.finditer(page.read_text(encoding="utf-8")):
        target = (page.parent / link["target"]).resolve() if link["target"] else page
        assert target.exists(), f"{page.name}: {link['target']}"
        if link["anchor"]:
            titles = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.M)
            anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
            assert link["anchor"] in anchors, f"{page.name}: {link[0]}"
