"""Routes what was raised and delivers it, in every worker, beside the requests.

Each round takes a few alerts and makes a delivery of each for its channels, then takes what is due
and sends it, at once to all channels. What fails is tried again after 15 s, 30 s, 1 min, … at most
an hour, each with some jitter, until `attempts_max`; then it is dead, and `farebox alerts retry`
begins anew. A worker that dies loses nothing: see `outbox`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog

from budgets.alerts.channels import ChannelError, Environment, Letter, send
from budgets.alerts.counters import DEAD, DELIVERED, FAILED
from budgets.alerts.facts import Facts
from budgets.alerts.outbox import Alert, Delivery, Outbox, Raised
from budgets.alerts.quiet import quiet_for_ms
from budgets.alerts.render import facts_of, render
from budgets.alerts.settings import Channel, template_texts
from budgets.errors import LedgerUnavailable
from budgets.published import Level

log = structlog.get_logger("farebox.alerts")

BATCH_MAX = 20
LEASE_MS = 120_000
"""How long a worker may keep an alert or a delivery; longer than any sending takes."""
BACKOFF_MS_MIN = 15_000
BACKOFF_MS_MAX = 3_600_000
JITTER = 0.2

Send = Callable[[Channel, Letter, Environment, int], Awaitable[None]]


def backoff_ms(attempts: int, jitter: float = 0.0) -> int:
    """Return the pause after a failed attempt; `attempts` failed before it.

    `jitter` from -1 to 1 moves it by up to a fifth, so that many do not come back at once.
    """
    pause = min(BACKOFF_MS_MAX, BACKOFF_MS_MIN << min(attempts, 20))
    return round(pause * (1 + JITTER * jitter))


@dataclass(slots=True)
class Deliverer:
    """Routes and delivers the alerts of one ledger.

    `clock` returns Unix milliseconds, for quiet hours and signatures.
    """

    outbox: Outbox
    facts: Facts
    environment: Environment
    clock: Callable[[], int]
    send: Send = send
    random: Callable[[float, float], float] = field(default=random.uniform)

    async def round(self) -> int:
        """Route and deliver what is there; return how much was done.

        Raises:
            LedgerUnavailable: the store did not answer.
        """
        routed = await self.route()
        return routed + await self.deliver()

    async def route(self) -> int:
        """Make deliveries of what was raised."""
        found = await self.outbox.take_raised(BATCH_MAX, LEASE_MS)
        for raised in found:
            alert, rules = await self._alert(raised)
            channels = self.facts.budgets().alerts.channels_for(alert.kind, alert.level, rules)
            if await self.outbox.route(raised.line, alert, channels):
                log.info("alert_routed", alert=alert.id, kind=alert.kind, level=alert.level,
                         rules=rules, channels=channels)  # fmt: skip
        return len(found)

    async def _alert(self, raised: Raised) -> tuple[Alert, tuple[str, ...]]:
        try:
            return await self.facts.alert(raised)
        except LedgerUnavailable:
            raise
        except Exception as error:
            # What a newer release raised may not be understood here: its name is told all the same.
            log.error("alert_not_understood", kind=raised.kind, error=type(error).__name__)
            level = self.facts.budgets().alerts.level_of(raised.kind).value
            return Alert(raised.id, raised.kind, level, raised.time_ms, "{}"), ()

    async def deliver(self) -> int:
        """Send what is due."""
        found = await self.outbox.take_due(BATCH_MAX, LEASE_MS)
        await asyncio.gather(*(self._deliver(one) for one in found))
        return len(found)

    async def _deliver(self, delivery: Delivery) -> None:
        file = self.facts.budgets()
        settings, alert = file.alerts, delivery.alert
        channel = settings.channels.get(delivery.channel)
        if channel is None:
            await self._failed(delivery, "budgets.yaml has no channel of this name any more")
            return
        if channel.quiet_hours and alert.level != Level.EMERGENCY and alert.kind != "test":
            quiet_ms = quiet_for_ms(settings.quiet_hours, file.time_zone, self.clock())
            if quiet_ms > 0:
                await self.outbox.postpone(delivery, quiet_ms)
                return
        facts = facts_of(alert.facts)
        own = template_texts(settings)
        message = await asyncio.to_thread(render, alert.kind, alert.level, facts, own)
        letter = Letter(
            delivery.key, alert.id, alert.kind, alert.level, alert.time_ms, message, facts
        )
        try:
            await self.send(channel, letter, self.environment, self.clock())
        except ChannelError as error:
            await self._failed(delivery, str(error))
        except Exception as error:
            # A library's own error: its text may have the address in it.
            await self._failed(delivery, f"it could not be sent ({type(error).__name__})")
        else:
            await self.outbox.delivered(delivery)
            DELIVERED.labels(delivery.channel).inc()
            log.info("alert_delivered", alert=alert.id, channel=delivery.channel)

    async def _failed(self, delivery: Delivery, error: str) -> None:
        given_up = delivery.attempts + 1 >= self.facts.budgets().alerts.attempts_max
        pause_ms = None if given_up else backoff_ms(delivery.attempts, self.random(-1, 1))
        if not await self.outbox.failed(delivery, error, pause_ms):
            return
        FAILED.labels(delivery.channel).inc()
        if given_up:
            DEAD.labels(delivery.channel).inc()
        log.error(
            "alert_given_up" if given_up else "alert_not_delivered",
            alert=delivery.alert.id,
            channel=delivery.channel,
            attempts=delivery.attempts + 1,
            reason=error,
        )
