"""The keyword classifier on labelled prompts, its phrases, and its time."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hooks.classify import TEXT_HEAD_MAX, Classifier, PhraseError, compile_phrase
from hooks.routing import UNCLASSIFIED, RoutingFile
from tests.support.policies import default_policy

LABELLED = """
lookup_retrieval             | Where is the retry limit configured?
lookup_retrieval             | What is the capital of Australia?
lookup_retrieval             | Which file defines the invoice model?
lookup_retrieval             | Give me a quick summary of what this flag does, in one sentence.
config_edit_formatting       | Fix this typo: "recieve" in the heading
config_edit_formatting       | Rename the variable foo to bar
config_edit_formatting       | Convert this list to YAML
config_edit_formatting       | Sort the imports of this file, please
config_edit_formatting       | Reformat this JSON with two spaces
simple_test_lint_boilerplate | Add a unit test for parse_date
simple_test_lint_boilerplate | Fix the lint errors that ruff reports
simple_test_lint_boilerplate | Generate getters and setters for this class
pr_review_conventions        | Check that this PR follows our naming conventions
pr_review_conventions        | Does this comply with the style guide?
code_generation              | Implement a REST API endpoint for orders with pagination
code_generation              | Write a function that parses ISO dates
code_generation              | Write the SQL that joins orders and customers by month
code_generation              | Add a feature: export the table as CSV
refactoring                  | Refactor this module to use dependency injection
refactoring                  | Extract the validation into its own class and remove duplication
documentation                | Write the documentation for the billing module
documentation                | Draft release notes for version 2.1
documentation                | Update the changelog for this release
code_review_logic            | Review this code: does the loop handle an empty list?
code_review_logic            | Find the bug in this function; I suspect an off by one
code_review_logic            | Is this correct? What edge cases does it miss?
architecture_decision        | Should we split the monolith into microservices?
architecture_decision        | What are the trade-offs of event sourcing here?
architecture_decision        | Compare two system designs for a multi-region deployment
adr_writing                  | Write an ADR for choosing Postgres over MySQL
adr_writing                  | Draft the decision record about the queue
security_review              | Do a security review of this login handler
security_review              | Check this file for leaked credentials
security_review              | Can this query be exploited by SQL injection?
security_review              | Scan this dump for PII
security_review              | Is it safe to log the customer's personal data here?
debugging_complex            | Find the root cause of the intermittent timeouts in production
debugging_complex            | Why does the worker crash only in production? Stack trace below
debugging_complex            | Our service has a memory leak that shows after two days
debugging_complex            | Debug this deadlock between two transactions
classification_intent        | Classify this email as spam or not: "You won!"
classification_intent        | What is the sentiment of this review? Answer yes or no: positive?
entity_extraction_structured | Extract the following fields from the invoice: total, date, vendor
entity_extraction_structured | Extract all named entities as JSON
summarization                | Summarize this meeting in five bullet points
summarization                | Give me an executive summary of the report
rag_answer                   | Based on the context below, when does the contract end?
rag_answer                   | Answer from the documents and cite your sources
multi_step_reasoning         | Three people cross a bridge at night. Think carefully, step by step.
multi_step_reasoning         | Prove that the sum of two odd numbers is even
novel_code_generation        | Write a lock-free queue from scratch
novel_code_generation        | Design an algorithm for scheduling with a consensus protocol
unclassified                 | Hello!
unclassified                 | Thanks, that works
unclassified                 | Tell me a joke about penguins
unclassified                 | What do you think of blue?
"""

# A light word beside a grave one, in another spelling, or in a sentence that begins as another.
HARD = """
refactoring                  | Please re-factor... I mean refactor this function
documentation                | Fix the readme: it needs a section on installation
code_review_logic            | Please do a code-review of the attached diff
architecture_decision        | Summarize the pros and cons of moving to microservices architecture
security_review              | Fix the typo in this security policy and check it for vulnerabilities
security_review              | Look up whether our auth code has a security hole
security_review              | Quick one: is this “security” header right?
security_review              | Rename this variable; does the code store hardcoded passwords?
debugging_complex            | root-cause analysis of last night's outage
debugging_complex            | Rename? No: the job fails intermittently and nobody knows why
novel_code_generation        | Implement payment logic from scratch
"""

# What people mean without one of the words for it: the limit of keywords, and under-routed by it.
BEYOND_KEYWORDS = """
security_review              | Audit our password reset flow for weaknesses
security_review              | Could an attacker bypass this permission check?
security_review              | Are there any secrets committed in this repo?
debugging_complex            | It works locally but not in CI, what's going on?
code_generation              | Create a React component for a date picker
code_generation              | Build a CLI tool that uploads files to S3
refactoring                  | Tidy up this class without changing behaviour
summarization                | Shorten this report to one page
multi_step_reasoning         | How many piano tuners are there in Chicago?
entity_extraction_structured | Pull the names and dates out of this text into a table
classification_intent        | Which category does the ticket belong to: billing, bug, other?
lookup_retrieval             | Who wrote the billing module?
architecture_decision        | How should we structure our services for ten times the traffic?
novel_code_generation        | Write a garbage collector for our new language
"""


def table(text: str) -> list[tuple[str, str]]:
    rows = [line.split("|", 1) for line in text.strip().splitlines()]
    return [(wanted.strip(), prompt.strip()) for wanted, prompt in rows]


def task_of(prompt: str, system: str = "") -> str:
    found = default_policy().classifier.classify(prompt, system)
    return found.task_type if found is not None else UNCLASSIFIED


@pytest.mark.parametrize(("wanted", "prompt"), table(LABELLED) + table(HARD))
def test_a_labelled_prompt_gets_its_task_type(wanted: str, prompt: str) -> None:
    assert task_of(prompt) == wanted


def test_the_labelled_prompts_cover_every_task_type() -> None:
    rows = table(LABELLED)
    assert len(rows) >= 40
    assert {wanted for wanted, _ in rows} == {UNCLASSIFIED, *default_policy().routing.task_types}


@pytest.mark.parametrize(("wanted", "prompt"), table(BEYOND_KEYWORDS))
def test_what_no_keyword_says_is_left_unclassified(wanted: str, prompt: str) -> None:
    """A known limit, and the measure for the classifier that replaces this one."""
    assert task_of(prompt) == UNCLASSIFIED
    assert wanted in default_policy().routing.task_types


def test_no_text_is_no_task_type() -> None:
    assert default_policy().classifier.classify("", "") is None
    assert default_policy().classifier.classify(" \n\t…—!?") is None


def test_what_spoke_for_a_task_type_is_told() -> None:
    found = default_policy().classifier.classify("A security review, please")
    assert found is not None and found.source == "user"
    assert set(found.keywords) == {"security", "security review"} and found.score == 12


def test_the_system_text_is_asked_only_where_the_user_says_nothing() -> None:
    system = "You review code for security."
    assert task_of("Hello!", system) == "security_review"
    assert task_of("Fix this typo", system) == "config_edit_formatting"


def test_case_and_punctuation_do_not_matter() -> None:
    for text in (
        "SECURITY!",
        "«security»",
        "(security)",
        "“security”",
        "security—now",
        "a/security",
    ):
        assert task_of(text) == "security_review", text
    for text in ("root cause", "Root-Cause", "root_cause", "root\ncause", "root\u00a0cause"):
        assert task_of(text) == "debugging_complex", text
    assert task_of("insecurity and nonsecurity") == UNCLASSIFIED


def test_a_question_at_the_end_of_a_long_message_is_seen() -> None:
    filler = "lorem ipsum " * TEXT_HEAD_MAX
    assert task_of(filler + "Find the root cause") == "debugging_complex"
    assert task_of("Find the root cause " + filler) == "debugging_complex"


# ── phrases ──────────────────────────────────────────────────────────────────────────────────────


def routing_with(**keywords: list[object]) -> RoutingFile:
    """Return a policy whose task types are in the tier that their name begins with."""
    tasks = {
        name: {
            "tier": name.split("_", maxsplit=1)[0], "floor": "ALL", "expected_output_tokens": 1,
            "keywords": phrases,
        }
        for name, phrases in keywords.items()
    }  # fmt: skip
    category = {"tokens_max": None, "typical_use": "", "output_tokens_max": 1, "escalation": ""}
    unknown = {"tier": "execute", "floor": "ALL", "expected_output_tokens": 1}
    data = {
        "version": 1, "mode": "enforce", "shadow_default": "x", "categories": {"ALL": category},
        "task_types": tasks, "unclassified": unknown,
    }  # fmt: skip
    return RoutingFile.model_validate(data)


@pytest.mark.parametrize(
    ("phrase", "text", "stands"),
    [
        ("fix .. typo*", "fix the very small typos", True),
        ("fix .. typo*", "fix typo", True),
        ("fix .. typo*", "fix one two three four five six typo", True),
        ("fix .. typo*", "fix one two three four five six seven typo", False),
        ("fix .. typo*", "prefix the typo", False),
        ("scalab*", "scalability", True),
        ("scalab*", "unscalable", False),
        ("pep 8", "pep  8", True),
        ("pep 8", "pep 80", False),
        ("tl;dr", "so, tl;dr: fine", True),
        ("tl;dr", "tl dr", False),
        ("c++", "in c++ code", True),
        ("über alles", "Über alles", True),
    ],
)
def test_phrases_stand_in_a_text_or_not(phrase: str, text: str, stands: bool) -> None:
    found = Classifier(routing_with(execute_it=[phrase])).classify(text)
    assert (found is not None) is stands


@pytest.mark.parametrize("phrase", ["..", "a ..", "*", "re*factor", "ab*", "***"])
def test_a_phrase_that_cannot_be_searched_for_is_refused(phrase: str) -> None:
    with pytest.raises(PhraseError):
        compile_phrase(phrase)


def test_the_highest_score_wins_and_a_tie_goes_to_the_higher_tier_then_to_the_first() -> None:
    one = Classifier(routing_with(execute_a=["red", "green"], reason_b=["blue"]))
    found = one.classify("red green blue")
    assert found is not None and (found.task_type, found.score) == ("execute_a", 2)
    tie = Classifier(routing_with(execute_a=["red"], reason_b=["blue"], reason_c=["blue"]))
    found = tie.classify("red blue")
    assert found is not None and found.task_type == "reason_b"


def test_a_keyword_weighs_its_words_unless_a_weight_is_given() -> None:
    one = Classifier(
        routing_with(execute_a=["deep red .. sea"], reason_b=[{"phrase": "sea", "weight": 2.5}])
    )
    found = one.classify("the deep red and wide sea")
    assert found is not None and (found.task_type, found.score) == ("execute_a", 3)


@given(st.text(max_size=400))
def test_any_text_is_classified_the_same_every_time(text: str) -> None:
    classifier = Classifier(default_policy().routing)
    assert classifier.classify(text) == default_policy().classifier.classify(text)


# ── time ─────────────────────────────────────────────────────────────────────────────────────────


def best_ms(text: str) -> float:
    classifier, best = default_policy().classifier, float("inf")
    for _ in range(20):
        begun = time.perf_counter()
        classifier.classify(text)
        best = min(best, (time.perf_counter() - begun) * 1000)
    return best


def test_500_tokens_take_milliseconds_at_the_most() -> None:
    """Measured: 0.06 ms; the bound leaves room for a busy machine."""
    words = "please look at the way that our billing service reads orders and tell me what it does "
    text = (words * 30)[:2_200] + " Find the root cause of the flaky security test."
    assert best_ms(text) < 5


@pytest.mark.parametrize(
    "text",
    ["fix " * 2_000, "fix" + " " * 8_000, "fix " + "a" * 8_000, "write .. " * 900, "-" * 8_000],
)
def test_a_hostile_text_takes_milliseconds(text: str) -> None:
    assert best_ms(text) < 50
