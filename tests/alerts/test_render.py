"""Messages: what the most important say, what a template may do, what is sent at worst."""

from __future__ import annotations

from typing import Any

import pytest

from budgets.alerts.kinds import GATHERED, KINDS, TEMPLATES, template_of
from budgets.alerts.render import TEXT_MAX, Message, check_template, defaults, render, samples
from budgets.alerts.settings import AlertSettings
from budgets.published import Level
from tests.ledger.worlds import CENT, USD

LEVELS = [level.value for level in Level]

WARNING = """\
Budget: FAST (month 2026-11)
Spent: $40.12 of $50.00 (80 %), $0.31 more held by requests under way
Burn rate: $1.91 a day
Forecast: $57.30 by 2026-12-01 00:00 UTC; passes 100 % on 2026-11-26
Top task types: code_generation $22.00 (71 %), refactoring $9.00 (29 %)
Top models: claude-haiku $30.00 (97 %), gemini-flash $1.00 (3 %)

What happens next: at 100 % new requests against FAST are refused with status 402 \
(budget_exceeded) until 2026-12-01 00:00 UTC. Nothing goes to another model in silence. \
Requests under way are finished.

To act:
  farebox budget show FAST
  farebox budget grant FAST 10 --reason "WHY"
  or, for every period: raise limit_usd of FAST in budgets.yaml"""


def made(name: str, own: dict[str, tuple[str, str]] | None = None, **facts: Any) -> Message:
    kind = "threshold" if name in LEVELS else name
    return render(kind, name, samples(name)[0] | facts, own or {})


def test_the_warning_says_all_that_its_reader_needs() -> None:
    message = made("warning")
    assert message == Message("Warning: FAST has spent 80 % of $50.00", WARNING)


def test_the_block_says_since_when_until_when_and_how_to_end_it() -> None:
    message = made("emergency", spent=50 * USD, left=0, percent=100)
    assert message.title == "Blocked: FAST has spent its $50.00"
    assert "every new request against FAST is refused with status 402" in message.text
    assert "until 2026-12-01 00:00 UTC" in message.text
    assert "raise limit_usd of FAST" in message.text
    assert "farebox budget grant FAST 10 --reason" in message.text


def test_a_refusal_below_the_limit_does_not_say_that_all_is_spent() -> None:
    message = made("emergency", left=3 * CENT)
    assert message.title == "Blocked: a request did not fit into FAST"
    assert "the $0.03 left was refused" in message.text


def test_a_forecast_names_the_day() -> None:
    message = made("forecast", percent=100)
    assert message.title == ("Forecast: FAST passes 100 % on 2026-11-26 at this burn rate")


def test_the_forecast_of_a_days_budget_names_the_time() -> None:
    message = made("forecast", percent=100, period="day")
    assert "FAST passes 100 % at 2026-11-26 00:00 UTC at this burn rate" in message.title


def test_times_are_those_of_the_budgets() -> None:
    assert "2026-12-01 01:00 Europe/Berlin" in made("warning", zone="Europe/Berlin").text


def test_there_is_a_message_for_every_kind_and_level() -> None:
    assert set(defaults()) - {"figures"} == TEMPLATES
    assert set(LEVELS) | {template_of(kind, "warning") for kind in KINDS} == TEMPLATES
    assert set(GATHERED) <= set(KINDS)
    for name in TEMPLATES:
        for facts in samples(name):
            kind = "threshold" if name in LEVELS else name
            message = render(kind, name, facts, {})
            assert "None" not in message.text and "{" not in message.title + message.text
            assert message.title != f"Farebox: {kind} ({name})", "that is what is sent at worst"


def test_a_callers_name_cannot_steer_a_message() -> None:
    message = made("warning", budget="user:%3C%21channel%3E", rule="user")
    assert "<!channel>" not in message.text and "%3C%21channel%3E" in message.text
    named = made("warning", budget="user:ann%40example.com", rule="user").text
    assert "user, ann@example.com" in named
    assert "farebox budget grant user:ann@example.com 10" in named


def test_templates_of_the_file_take_the_place_of_the_others() -> None:
    settings = AlertSettings.model_validate(
        {
            "templates": {
                "warning": {"title": "{{ name }} {{ used | percent }}", "text": "{{ burn }}"}
            }
        }
    )
    template = settings.templates["warning"]
    message = made("warning", {"warning": (template.title, template.text)})
    assert (message.title, message.text) == ("FAST 80 %", "1910000000")


@pytest.mark.parametrize(
    "text",
    [
        "{{ nothing }}",
        "{% if %}",
        "{{ ''.__class__.__mro__ }}",
        "{{ spent.__init__.__globals__ }}",
        "{% include 'x' %}",
        "{{ passes_at / 0 }}",
    ],
)
def test_a_template_that_cannot_be_made_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="the message 'warning' cannot be made"):
        check_template("warning", "title", text)


def test_a_template_that_fails_on_real_facts_gives_way_to_the_usual_message() -> None:
    own = {"warning": ("x", "{{ top_models[0][0] }}")}
    assert made("warning", own).text == "claude-haiku"
    assert made("warning", own, top_models=[]).title == "Warning: FAST has spent 80 % of $50.00"


def test_an_alert_that_is_not_understood_is_told_by_its_name() -> None:
    assert render("newer", "critical", {}, {}).title == "Farebox: newer (critical)"
    assert render("threshold", "warning", {}, {}).title == "Farebox: threshold (warning)"


def test_a_message_is_bounded_and_has_one_line_of_title() -> None:
    own = {"warning": ("a\nb\x1b[2J", "x" * 10_000)}
    message = made("warning", own)
    assert message.title == "a b[2J" and len(message.text) == TEXT_MAX
