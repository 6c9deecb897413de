"""`farebox profile`: which tier is good enough for which work, on the user's own prompts."""

from __future__ import annotations

import typer

from scripts.cli import profile_apply, profile_grade, profile_report, profile_run

HELP = """Measure which tier is good enough, on your own prompts.

First write down, as code, what an acceptable answer is (the oracle). Then run your prompts through
every tier, look at the report, and apply it to the routing.

Example: farebox profile run prompts.jsonl --oracle oracle.yaml
"""

app = typer.Typer(help=HELP, no_args_is_help=True)
app.command("run")(profile_run.run)
app.command("grade")(profile_grade.grade)
app.command("report")(profile_report.report)
app.command("apply")(profile_apply.apply)
app.command("add-samples")(profile_grade.add_samples)
