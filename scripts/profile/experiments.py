"""A profile in Langfuse: its prompts as a dataset, each tier as an experiment over it.

    prompts file ─► dataset, an item a prompt
    a tier       ─► experiment (dataset run): each answer is linked to the trace that the proxy sent
                    of its request, and scored with what the oracle said

What is sent of prompts, expected answers and answers follows the redaction setting of traces. All
ids are made of what they are of, so publishing a profile twice changes nothing; a run that went on
publishes what was there before once more.

A server before Langfuse 4 is told of the runs by its API. One from 4 on has no such API: it makes
the experiment of the attributes that every linked observation bears, and they are always sent.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from langfuse import LangfuseOtelSpanAttributes as Names
from langfuse.api.core import ApiError

from budgets import money
from callbacks.tracing.observation import ROOT, Addition, Observation
from callbacks.tracing.patience import Closing, Patience
from callbacks.tracing.scores import Score
from callbacks.tracing.scoring import ScoreSender
from callbacks.tracing.sender import LangfuseSender, observation_id, tls, trace_id
from callbacks.tracing.settings import Settings
from scripts.profile.answers import KeptAnswer
from scripts.profile.records import Profile, PromptLine, Record

ORACLE_PASSED = "oracle_passed"
ORACLE_SCORE = "oracle_score"
PASS_RATE = "pass_rate"
COST_USD = "cost_usd"

BATCH = 50
GIVE_UP_AFTER_S = 10.0
NO_RUNS_API = frozenset({404, 405, 410, 501})
"""What a server answers that knows experiments by their attributes only."""


@dataclass(frozen=True, slots=True)
class Published:
    """What Langfuse has of a profile. `problem` says what it has not, and why."""

    dataset: str
    items: int = 0
    runs: tuple[str, ...] = ()
    linked: int = 0
    scores: int = 0
    problem: str = ""


class _Failed(Exception):
    """Langfuse did not take something; the text says what."""


def dataset_of(prompts_file: str) -> str:
    """Return the name of the dataset that a prompts file is in Langfuse."""
    return f"farebox/{Path(prompts_file).stem}"


def publish(
    profile: Profile,
    prompts: Sequence[PromptLine],
    answers: Mapping[tuple[str, str], KeptAnswer],
    settings: Settings,
    tell: Callable[[], None] = lambda: None,
) -> Published:
    """Send a profile; what goes wrong there is said. `tell` is called for each answer."""
    # A person asked for these: none is left out by chance.
    publisher = _Publisher(profile, answers, replace(settings, sample_rate=1.0))
    try:
        publisher.dataset([it for it in prompts if it.digest in publisher.digests])
        for tier in profile.header.tiers:
            publisher.run(tier, tell)
    except _Failed as failed:
        return replace(publisher.done, problem=str(failed))
    except (ApiError, httpx.HTTPError) as error:
        status = getattr(error, "status_code", None)
        what = f"it answered {status}" if status else type(error).__name__
        return replace(publisher.done, problem=f"{what} at {settings.base_url}")
    finally:
        publisher.close()
    return publisher.done


class _Publisher:
    def __init__(
        self,
        profile: Profile,
        answers: Mapping[tuple[str, str], KeptAnswer],
        settings: Settings,
    ) -> None:
        verify = tls(settings.base_url)
        patience = Patience(GIVE_UP_AFTER_S, settings.timeout_s, Closing())
        self._profile, self._answers, self._settings = profile, answers, settings
        self._patience = patience
        self._sender = LangfuseSender(settings, verify)
        self._scorer = ScoreSender(settings, lambda: patience, verify)
        self._redaction = settings.redaction
        self._runs_by_api = True
        self._dataset_id = ""
        self._prompts: dict[str, PromptLine] = {}
        self.digests = {record.digest for record in profile.records}
        self.done = Published(dataset_of(profile.header.prompts_file))

    def close(self) -> None:
        """Let go of the connection; the SDK ends its own threads with the process."""
        self._sender.close()

    def dataset(self, prompts: Sequence[PromptLine]) -> None:
        """Create the dataset and its items, or bring them up to date."""
        client, name = self._scorer.client, self.done.dataset
        self._prompts = {prompt.digest: prompt for prompt in prompts}
        made = client.create_dataset(
            name=name,
            description="Prompts of `farebox profile run`.",
            metadata={"prompts_sha256": self._profile.header.prompts_sha256},
        )
        self._dataset_id = made.id
        for prompt in prompts:
            client.create_dataset_item(
                dataset_name=name,
                id=self._item_id(prompt.digest),
                input=self._redaction.plain(_asked(prompt)),
                expected_output=self._redaction.plain(prompt.expected),
                metadata={
                    "digest": prompt.digest,
                    "task_type": prompt.task_type,
                    "weight": prompt.weight,
                    "source": prompt.source,
                    "id": prompt.id,
                },
            )
        self.done = replace(self.done, items=len(prompts))

    def run(self, tier: str, tell: Callable[[], None]) -> None:
        """Send one tier's answers as an experiment over the dataset."""
        records = [it for it in self._profile.records if it.tier == tier]
        if not records:
            return
        name = f"{self._profile.header.name} {tier}"
        run_id = _id(self.done.dataset, name)[:16]
        for start in range(0, len(records), BATCH):
            batch = records[start : start + BATCH]
            lines = []
            for record in batch:
                seed = record.decision or f"{name}/{record.digest}"
                run_id = self._link(name, run_id, record, seed)
                lines.append((record, seed))
                tell()
            self._send(
                [self._line(name, run_id, record, seed) for record, seed in lines],
                [(seed, score) for record, seed in lines for score in self._scores(record)],
            )
        self._send([], self._of_run(name, run_id, records))
        self.done = replace(self.done, runs=(*self.done.runs, name))

    def _link(self, name: str, run_id: str, record: Record, seed: str) -> str:
        """Tell the API of one answer in a run; return the run's id, as far as it is known."""
        if not self._runs_by_api:
            return run_id
        header = self._profile.header.tiers[record.tier]
        try:
            made = self._scorer.client.api.dataset_run_items.create(
                run_name=name,
                run_description=f"The group {header.group} ({header.model}).",
                metadata={"tier": record.tier, "group": header.group, "model": header.model},
                dataset_item_id=self._item_id(record.digest),
                trace_id=trace_id(seed),
                observation_id=observation_id(seed, _key(record)),
            )
        except ApiError as error:
            if error.status_code not in NO_RUNS_API:
                raise
            self._runs_by_api = False
            return run_id
        return str(made.dataset_run_id)

    def _line(self, name: str, run_id: str, record: Record, seed: str) -> Addition:
        prompt = self._prompts.get(record.digest)
        kept = self._answers.get(record.key)
        ended = record.time or datetime.now(UTC)
        return Addition(
            seed=seed,
            trace_name=record.task_type,
            task_type=record.task_type,
            line=Observation(
                key=_key(record),
                name="profile",
                type="span",
                parent=ROOT if record.decision else None,
                started=ended - timedelta(milliseconds=record.latency_ms),
                ended=ended,
                level="ERROR" if record.error else "DEFAULT",
                message=record.error,
                prompt=_asked(prompt) if prompt is not None else None,
                answer=kept.answer.text if kept is not None else None,
                metadata={
                    "profile": self._profile.header.name,
                    "tier": record.tier,
                    "group": record.group,
                    "digest": record.digest,
                    "passed": record.passed if record.counts else None,
                    "cost_usd": money.plain(record.cost_nano_usd),
                    "cost_nano_usd": record.cost_nano_usd,
                },
                attributes=self._experiment(name, run_id, record, seed, prompt),
            ),
        )

    def _experiment(
        self, name: str, run_id: str, record: Record, seed: str, prompt: PromptLine | None
    ) -> dict[str, str]:
        values: dict[str, str | None] = {
            Names.EXPERIMENT_ID: run_id,
            Names.EXPERIMENT_NAME: name,
            Names.EXPERIMENT_DATASET_ID: self._dataset_id,
            Names.EXPERIMENT_ITEM_ID: self._item_id(record.digest),
            Names.EXPERIMENT_ITEM_ROOT_OBSERVATION_ID: observation_id(seed, _key(record)),
            Names.EXPERIMENT_ITEM_EXPECTED_OUTPUT: self._redaction.render(
                prompt.expected if prompt is not None else None
            ),
            f"{Names.EXPERIMENT_METADATA}.tier": record.tier,
            f"{Names.EXPERIMENT_METADATA}.group": record.group,
        }
        return {key: value for key, value in values.items() if value is not None}

    def _scores(self, record: Record) -> list[Score]:
        if not record.counts:
            return []
        key = _key(record)
        # A judge's reasons can quote the answer.
        comment = self._redaction.plain("; ".join(record.reasons)) if record.reasons else None
        said = comment if isinstance(comment, str) else None
        passed = Score(
            name=ORACLE_PASSED, value=int(record.passed), type="BOOLEAN", of=key, comment=said
        )
        return [passed, Score(name=ORACLE_SCORE, value=record.score, type="NUMERIC", of=key)]

    def _of_run(self, name: str, run_id: str, records: Sequence[Record]) -> list[tuple[str, Score]]:
        counted = [it for it in records if it.counts]
        if not self._runs_by_api or not counted:
            return []
        passed = sum(it.passed for it in counted) / len(counted)
        spent = float(money.to_usd(sum(it.cost_nano_usd for it in records)))
        return [
            (name, Score(name=score, value=value, type="NUMERIC", dataset_run=run_id))
            for score, value in ((PASS_RATE, passed), (COST_USD, spent))
        ]

    def _send(self, lines: Sequence[Addition], scored: Sequence[tuple[str, Score]]) -> None:
        if lines:
            body = self._sender.encode([it for line in lines for it in self._sender.spans(line)])
            sent = self._patience.deliver(lambda timeout_s: self._sender.post(body, timeout_s))
            if not sent.delivered:
                raise _Failed(f"answers were not taken ({sent.reason})")
            self.done = replace(self.done, linked=self.done.linked + len(lines))
        if scored:
            taken = self._scorer.send(scored)
            self.done = replace(self.done, scores=self.done.scores + taken)
            if taken < len(scored):
                raise _Failed(f"{len(scored) - taken} scores were not taken")

    def _item_id(self, digest: str) -> str:
        return _id(self._settings.public_key, self.done.dataset, digest)


def _asked(prompt: PromptLine) -> Any:
    return prompt.prompt if prompt.messages is None else list(prompt.messages)


def _key(record: Record) -> str:
    """Return the key of an answer's observation in its request's trace."""
    return f"profile/{record.tier}/{record.digest}"


def _id(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]
