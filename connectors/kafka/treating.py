"""Deals with records for good: published, passed over, or refused and treated as `on_error` says; in their order."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from connectors.client import Client
from connectors.errors import TRANSPORT, EntenteClientError
from connectors.kafka.lanes import Taken
from connectors.mapping.record import AgencyRecord
from connectors.publishing import PublishOutcome
from connectors.retry import Retry
from connectors.runtime.model import ConnectorFailed
from connectors.runtime.progress import Progress
from connectors.runtime.refusals import Letter, Refusals

_OF_THE_CALL = frozenset({"MESSAGE_TOO_LARGE", "REQUEST_INVALID"})
"""Reasons that one record can bring upon all that travel with it."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A record that can never be stored as it is; cause: begins with the reason."""

    taken: Taken
    cause: str

    def letter(self) -> Letter[AgencyRecord]:
        """What is kept of it."""
        return Letter(self.taken.record, self.cause, self.taken.attempt, self.taken.record.origin)


class Publishing:
    """Publishes to one topic, and tells records that are refused from an exchange that cannot take them now."""

    def __init__(self, exchange: Client, topic: str, retry: Retry, progress: Progress) -> None:
        """retry: how often a record is sent again that the exchange could not store, though it took the call."""
        self._exchange = exchange
        self._topic = topic
        self._retry = retry
        self._progress = progress

    async def publish(self, taken: Sequence[Taken]) -> list[Refused]:
        """Publish what has an event, in order; those that are refused, with those that the mapping refused.

        Raises EntenteClientError, and ConnectorFailed when a record could not be stored in the end; nothing is known
        then of which ones were.
        """
        waiting = [each for each in taken if each.event is not None]
        causes: dict[int, str] = {}
        pauses = iter(self._retry.pauses_s())
        while waiting:
            outcomes = await self._sent(waiting)
            again = next((at for at, each in enumerate(outcomes) if each.retryable), len(outcomes))
            self._note(waiting[:again], outcomes[:again], causes)
            if again == len(outcomes):
                break
            # From the first one on, or later ones of its key would overtake it; what is stored is acknowledged again.
            waiting = waiting[again:]
            await self._pause(next(pauses, None), outcomes[again])
        told = ((each, causes.get(id(each), each.cause)) for each in taken)
        return [Refused(each, cause) for each, cause in told if cause is not None]

    def _note(
        self, taken: Sequence[Taken], outcomes: Sequence[PublishOutcome], causes: dict[int, str]
    ) -> None:
        moved = moved_bytes = 0
        for each, outcome in zip(taken, outcomes, strict=True):
            if outcome.reason is None:
                moved, moved_bytes = moved + 1, moved_bytes + each.size
            else:
                causes[id(each)] = _cause(outcome)
        if moved:
            self._progress.moved(moved, moved_bytes)

    async def _pause(self, pause_s: float | None, outcome: PublishOutcome) -> None:
        if pause_s is None:
            raise ConnectorFailed(
                f"the exchange could not store a record: {_cause(outcome)}; trying again later"
            )
        self._progress.retries += 1
        await asyncio.sleep(pause_s)

    async def _sent(self, taken: Sequence[Taken]) -> list[PublishOutcome]:
        """As many outcomes as records; a call that is refused for one record is made again in halves, down to that one."""
        events = [each.event for each in taken if each.event is not None]
        try:
            return await self._exchange.publish(self._topic, events)
        except EntenteClientError as error:
            if not _one_may_be_to_blame(error):
                raise
            if len(events) == 1:
                refused = PublishOutcome(
                    events[0].source,
                    events[0].id,
                    reason=error.reason,
                    message=error.message,
                    reference=error.reference,
                )
                return [refused]
        half = len(taken) // 2
        return [*await self._sent(taken[:half]), *await self._sent(taken[half:])]


class Treatment:
    """What a task does with each call's records."""

    def __init__(self, publishing: Publishing, refusals: Refusals[AgencyRecord]) -> None:
        self._publishing = publishing
        self._refusals = refusals

    async def treat(self, taken: Sequence[Taken]) -> None:
        """Deal with all of them for good: their offsets may be committed then. Raises as `Publishing.publish`."""
        refused = await self._publishing.publish(taken)
        await self._refusals.treat([each.letter() for each in refused])


def _one_may_be_to_blame(error: EntenteClientError) -> bool:
    # The transport cuts off what is larger than the exchange reads at all, without a reason of the catalogue.
    cut_off = error.reason == TRANSPORT and error.code == "RESOURCE_EXHAUSTED"
    return cut_off or error.reason in _OF_THE_CALL


def _cause(outcome: PublishOutcome) -> str:
    reference = f" (reference {outcome.reference})" if outcome.reference else ""
    return f"{outcome.reason}: {outcome.message}{reference}"
