"""What the dashboard shows: four views, each a row of panels.

Counters are summed over all proxies, what is read from the ledger is the same in each of them and
so the maximum is taken. Shares are per task type: one figure over all of them hides what happens in
one.
"""

from __future__ import annotations

from scripts.monitoring.panels import Panel, panel

SENT = 'farebox_requests_total{verdict!~"refused|queued"}'
"""Requests that were sent, by how they ended."""

_SPENT = "max by (budget) (farebox_budget_spent_usd)"
_LIMIT = "max by (budget) (farebox_budget_limit_usd)"
_BURN = "max by (budget) (clamp_min(delta(farebox_budget_spent_usd[6h]), 0))"
_RESETS = "max by (budget) (farebox_budget_resets_timestamp_seconds)"


def share(part: str, whole: str, by: str = "task_type") -> str:
    """Return one counter's rate as a share of another's, by a label."""
    return f"sum by ({by}) (rate({part}[$window])) / sum by ({by}) (rate({whole}[$window]))"


def rate(counter: str, by: str) -> str:
    """Return a counter's rate by one or more labels."""
    return f"sum by ({by}) (rate({counter}[$window]))"


def quantile(q: float, histogram: str, by: str = "") -> str:
    """Return a quantile of a histogram, by a label where one is given."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({q}, sum by ({labels}) (rate({histogram}_bucket[$window])))"


_OVERAGE_SHARE = (
    "(sum(rate(farebox_overage_requests_total[$window])) or vector(0))"
    ' / sum(rate(farebox_requests_total{verdict="served"}[$window]))'
)
_MISMATCH_SHARE = (
    f"{rate('farebox_mismatches_total', 'task_type, direction')}"
    f" / on (task_type) group_left () {rate(SENT, 'task_type')}"
)

BUDGETS: tuple[Panel, ...] = (
    panel(
        "Spent of limit",
        "What each budget has spent of what may be spent in its period.",
        (f"{_SPENT} / ({_LIMIT} > 0)", "{{budget}}"),
        kind="bargauge",
        unit="percentunit",
        steps=(("yellow", 0.8), ("orange", 0.95), ("red", 1)),
    ),
    panel(
        "Remaining",
        "Limit less spent less held.",
        ("max by (budget) (farebox_budget_remaining_usd)", "{{budget}}"),
        kind="bargauge",
        unit="currencyUSD",
        least=None,
    ),
    panel(
        "Thresholds passed",
        "Levels that were claimed in the current period.",
        ("max by (budget, period, level) (farebox_budget_threshold_passed) > 0", ""),
        kind="table",
    ),
    panel("Spent", "By budget, in its period.", (_SPENT, "{{budget}}"), unit="currencyUSD"),
    panel(
        "Held",
        "Set aside for requests on their way.",
        ("max by (budget) (farebox_budget_held_usd)", "{{budget}}"),
        unit="currencyUSD",
    ),
    panel(
        "Burn rate",
        "US dollars a day, by the last six hours.",
        (f"{_BURN} * 4", "{{budget}}"),
        unit="currencyUSD",
    ),
    panel(
        "Forecast at the period's end",
        "What will be spent if the last six hours go on; beside it, the limit.",
        (f"{_SPENT} + {_BURN} / 21600 * ({_RESETS} - time())", "{{budget}}"),
        (_LIMIT, "limit of {{budget}}"),
        unit="currencyUSD",
    ),
    panel(
        "Cost by task type",
        "US dollars an hour.",
        (rate("farebox_cost_usd_total", "task_type") + " * 3600", "{{task_type}}"),
        unit="currencyUSD",
    ),
    panel(
        "Cost by model",
        "US dollars an hour.",
        (rate("farebox_cost_usd_total", "model") + " * 3600", "{{model}}"),
        unit="currencyUSD",
    ),
    panel(
        "Counters of rules with `each`",
        "How many users, keys or teams have a counter; the fullest are shown above.",
        ("max by (rule) (farebox_budget_counters)", "{{rule}}"),
        kind="stat",
    ),
    panel(
        "Holds",
        "Requests on their way, by budget.",
        ("max by (budget) (farebox_budget_holds)", "{{budget}}"),
    ),
    panel(
        "Overage",
        "Share of served requests that cost more than their hold. The target is below 0.1 %.",
        (
            _OVERAGE_SHARE,
            "overage",
        ),
        unit="percentunit",
        steps=(("red", 0.001),),
    ),
)

ROUTING: tuple[Panel, ...] = (
    panel(
        "Requests by verdict",
        "A second.",
        (rate("farebox_requests_total", "verdict"), "{{verdict}}"),
        unit="reqps",
    ),
    panel(
        "Requests by category",
        "A second, sent or not.",
        (rate("farebox_requests_total", "category"), "{{category}}"),
        unit="reqps",
    ),
    panel(
        "Requests by task type",
        "A second, sent or not.",
        (rate("farebox_requests_total", "task_type"), "{{task_type}}"),
        unit="reqps",
    ),
    panel(
        "Model mix",
        "Each model's share of what was sent.",
        (f"{rate(SENT, 'model')} / on () group_left () sum(rate({SENT}[$window]))", "{{model}}"),
        unit="percentunit",
    ),
    panel(
        "Requests by model and verdict",
        "A second.",
        (rate("farebox_requests_total", "model, verdict"), "{{model}} {{verdict}}"),
        unit="reqps",
    ),
    panel(
        "Refusals by code",
        "A second.",
        (rate("farebox_requests_refused_total", "code"), "{{code}}"),
        unit="reqps",
    ),
    panel(
        "Decision time",
        "Reading, counting and deciding, without the ledger.",
        *((quantile(q, "farebox_decision_seconds"), f"p{q * 100:.0f}") for q in (0.5, 0.95, 0.99)),
        unit="s",
    ),
    panel(
        "Added latency",
        "What Farebox adds: who asks (auth), the hook before the call with the ledger's answer "
        "(before), the hooks after it (after).",
        (quantile(0.5, "farebox_added_seconds", "stage"), "p50 {{stage}}"),
        (quantile(0.99, "farebox_added_seconds", "stage"), "p99 {{stage}}"),
        unit="s",
    ),
    panel(
        "Router's verdicts",
        "What the trained router said, and whether the decision went by it.",
        (
            rate("farebox_router_verdicts_total", "side, followed"),
            "{{side}}, followed {{followed}}",
        ),
        unit="reqps",
    ),
)

ALERTS: tuple[Panel, ...] = (
    panel(
        "Firing",
        "Alerts of Farebox's rules that fire now; each has a section in the runbooks.",
        'ALERTS{alertname=~"Farebox.*", alertstate="firing"}',
        kind="table",
    ),
    panel(
        "Escalation rate by task type",
        "Requests that were asked for anew further up because their answer did not pass its gate.",
        (share('farebox_escalations_total{by="gate"}', SENT), "{{task_type}}"),
        unit="percentunit",
        steps=(("red", 0.25),),
    ),
    panel(
        "Fallback share by task type",
        "Requests that another model than the one asked has answered.",
        (share("farebox_fallbacks_total", SENT), "{{task_type}}"),
        unit="percentunit",
        steps=(("red", 0.1),),
    ),
    panel(
        "Escalations of budgets",
        "Requests that were sent by a step of the escalation, a second.",
        (rate('farebox_escalations_total{by="budget"}', "task_type"), "{{task_type}}"),
        unit="reqps",
    ),
    panel(
        "Approvals open",
        "Tickets that wait for an answer.",
        "max(farebox_approvals_open)",
        kind="stat",
        width=4,
        steps=(("orange", 1),),
    ),
    panel(
        "Alerts",
        "Those that wait, and those that were given up.",
        ("max(farebox_alerts_waiting)", "waiting"),
        ("max(farebox_alerts_given_up)", "given up"),
        kind="stat",
        width=4,
    ),
    panel(
        "Deliveries",
        "Of alerts, a second, by channel.",
        (rate("farebox_alerts_delivered_total", "channel"), "{{channel}} delivered"),
        (rate("farebox_alerts_failed_total", "channel"), "{{channel}} failed"),
        unit="reqps",
    ),
    panel(
        "Queue",
        "Requests that wait or run, by category.",
        ("max by (category) (farebox_queue_depth)", "{{category}}"),
    ),
    panel(
        "Oldest in the queue",
        "How long it has waited.",
        "max(farebox_queue_age_seconds)",
        unit="s",
        kind="stat",
        width=4,
    ),
    panel(
        "Queue's cost",
        "What the queued requests will probably cost.",
        "max(farebox_queue_expected_usd)",
        unit="currencyUSD",
        kind="stat",
        width=4,
    ),
    panel(
        "Given up in the queue",
        "Requests on the dead-letter list.",
        "max(farebox_queue_dead)",
        kind="stat",
        width=4,
        steps=(("red", 1),),
    ),
    panel(
        "Ledger",
        "1 where every worker reaches it, and where scrapes read it.",
        ("min(farebox_ledger_available)", "workers"),
        ("min(farebox_ledger_read)", "scrapes"),
        kind="stat",
        width=4,
    ),
    panel(
        "Journal",
        "Lines that wait for the ledger, and those that are not on disk.",
        ("sum(farebox_journal_lines)", "waiting"),
        ("sum(farebox_journal_unwritten_lines)", "not on disk"),
    ),
    panel(
        "Policy",
        "Workers; policies in force (1 is right); workers that refuse an edit or want a restart.",
        ("max(farebox_workers)", "workers"),
        ("max(farebox_policies_in_force)", "policies"),
        ("max(farebox_policy_rejected)", "refuse an edit"),
        ("max(farebox_policy_needs_restart)", "need a restart"),
    ),
    panel(
        "Reloads of the policy",
        "Edits, each counted by every worker.",
        (rate("farebox_policy_reloads_total", "result") + " * 3600", "{{result}} an hour"),
    ),
)

QUALITY: tuple[Panel, ...] = (
    panel(
        "First answers that fail their gate",
        "By task type.",
        (
            share(
                'farebox_gate_verdicts_total{verdict="failed"}',
                'farebox_gate_verdicts_total{verdict!="not_judged"}',
            ),
            "{{task_type}}",
        ),
        unit="percentunit",
    ),
    panel(
        "Withheld answers",
        "Share of a task type's requests whose answer passed no gate.",
        (share('farebox_requests_total{verdict="withheld"}', SENT), "{{task_type}}"),
        unit="percentunit",
    ),
    panel(
        "Mismatches",
        "Share of a task type's requests on a model of another tier than it needs.",
        (
            _MISMATCH_SHARE,
            "{{task_type}} {{direction}}",
        ),
        unit="percentunit",
    ),
    panel(
        "Estimate error",
        "(actual - estimate) / actual by task type: above zero, estimates were too low.",
        (
            f"1 - {share('farebox_judged_estimate_usd_total', 'farebox_judged_actual_usd_total')}",
            "{{task_type}}",
        ),
        unit="percentunit",
        least=None,
    ),
    panel(
        "Estimate error of single requests",
        "Without its sign, by category.",
        (quantile(0.5, "farebox_estimate_error_ratio", "category"), "p50 {{category}}"),
        (quantile(0.95, "farebox_estimate_error_ratio", "category"), "p95 {{category}}"),
        unit="percentunit",
    ),
    panel(
        "Output tokens by task type",
        "They cost three to five times as much as input, and grow in silence.",
        (quantile(0.5, "farebox_output_tokens", "task_type"), "p50 {{task_type}}"),
        (quantile(0.95, "farebox_output_tokens", "task_type"), "p95 {{task_type}}"),
    ),
    panel(
        "Drift",
        "How near each signal is to being out of control: from 1 on it is.",
        ("max by (signal, task_type) (farebox_drift_score)", "{{signal}} {{task_type}}"),
        width=16,
        steps=(("red", 1),),
    ),
    panel(
        "Out of control",
        "Findings by signal; each signal has a section in the runbooks.",
        "max by (signal, task_type) (farebox_drift_finding) > 0",
        kind="table",
    ),
    panel(
        "Router",
        "Whether the trained router takes part, and whether live requests unlike its profile came.",
        ("min(farebox_router_ready)", "ready"),
        ("max(farebox_router_drifted)", "drifted"),
        kind="stat",
    ),
    panel(
        "Traces for Langfuse",
        "A second; and scores of traces that were lost.",
        (rate("farebox_traces_total", "result"), "{{result}}"),
        ('sum(rate(farebox_trace_scores_total{result="lost"}[$window]))', "scores lost"),
        unit="reqps",
    ),
    panel(
        "Shadow comparisons",
        "A second.",
        (rate("farebox_shadow_comparisons_total", "result"), "{{result}}"),
        unit="reqps",
    ),
)

VIEWS: tuple[tuple[str, tuple[Panel, ...]], ...] = (
    ("Budget health", BUDGETS),
    ("Routing decisions", ROUTING),
    ("Alerts and escalations", ALERTS),
    ("Quality and drift", QUALITY),
)
