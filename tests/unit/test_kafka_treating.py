"""Refusals of a record are told from outages: the one is treated by `on_error`, the other tried again, in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest

from connectors.errors import EntenteClientError, error_of
from connectors.kafka.lanes import Taken
from connectors.kafka.treating import Publishing, Treatment
from connectors.mapping.record import AgencyRecord
from connectors.publishing import PublishOutcome
from connectors.retry import Retry
from connectors.runtime.model import ConnectorFailed
from connectors.runtime.progress import Progress
from connectors.runtime.refusals import Letter, Refusals
from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent

Answer = Callable[[CloudEvent], str | None]


def taken(name: str, cause: str | None = None) -> Taken:
    event = None if cause else CloudEvent(id=name, source="//ems/x")
    return Taken(0, AgencyRecord(None, b"12", (), None, {"offset": name}), event, cause)


class Exchange:
    """Answers each record with a reason, or None to store it; notes what each call held."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.calls: list[str] = []

    async def publish(self, topic: str, events: Sequence[CloudEvent]) -> list[PublishOutcome]:
        self.calls.append("".join(each.id for each in events))
        found = []
        for event in events:
            reason = self.answer(event)
            position = b"p" if reason is None else None
            found.append(PublishOutcome(event.source, event.id, position, reason=reason, message="why"))
        return found


def publishing(exchange: object, progress: Progress | None = None, attempts: int = 3) -> Publishing:
    return Publishing(cast(Any, exchange), "t", Retry(attempts, 0.0, 0.0), progress or Progress())


async def test_refused_records_are_told_in_order_with_those_that_the_mapping_refused() -> None:
    progress = Progress()
    exchange = Exchange(lambda event: "ID_REUSED" if event.id == "c" else None)
    records = [taken("a"), taken("b", "LABEL_MISSING: no tlp"), taken("c"), taken("d")]
    refused = await publishing(exchange, progress).publish(records)
    assert [(each.taken.record.origin["offset"], each.cause) for each in refused] == [
        ("b", "LABEL_MISSING: no tlp"),
        ("c", "ID_REUSED: why"),
    ]
    assert exchange.calls == ["acd"]
    assert (progress.records, progress.bytes) == (2, 4)


async def test_what_the_mapping_passes_over_is_neither_sent_nor_refused() -> None:
    exchange = Exchange(lambda event: None)
    tombstone = Taken(0, AgencyRecord(b"k", None), None)
    assert await publishing(exchange).publish([tombstone]) == []
    assert exchange.calls == []


async def test_a_record_that_could_not_be_stored_now_is_sent_again_with_all_behind_it() -> None:
    progress = Progress()
    down = ["STORAGE_UNAVAILABLE", "INTERNAL"]
    exchange = Exchange(lambda event: down.pop(0) if event.id == "b" and down else None)
    assert await publishing(exchange, progress).publish([taken(each) for each in "abc"]) == []
    assert exchange.calls == ["abc", "bc", "bc"]
    assert (progress.records, progress.retries) == (3, 2)


async def test_an_outage_of_one_record_never_makes_a_dead_letter() -> None:
    exchange = Exchange(lambda event: "POLICY_UNAVAILABLE")
    kept = Keeper()
    refusals = Refusals("crashes", "dead-letter", kept, Progress())
    with pytest.raises(ConnectorFailed, match="POLICY_UNAVAILABLE") as told:
        await Treatment(publishing(exchange), refusals).treat([taken("a")])
    assert not told.value.lasting
    assert len(exchange.calls) == 3
    assert kept.letters == []


class Keeper:
    """Dead letters, in a list."""

    def __init__(self) -> None:
        self.letters: list[Letter[AgencyRecord]] = []

    async def put(self, letters: Sequence[Letter[AgencyRecord]]) -> None:
        self.letters += letters


async def test_refused_records_are_kept_untouched_before_the_call_counts_as_dealt_with() -> None:
    kept = Keeper()
    refusals = Refusals("crashes", "dead-letter", kept, Progress())
    record = taken("a")
    await Treatment(publishing(Exchange(lambda event: "CONTENT_INVALID")), refusals).treat([record])
    assert [(each.record, each.cause, each.attempt) for each in kept.letters] == [
        (record.record, "CONTENT_INVALID: why", 1)
    ]


class Choosy(Exchange):
    """Refuses each call that holds a certain record."""

    def __init__(self, poison: str, error: EntenteClientError) -> None:
        super().__init__(lambda event: None)
        self.poison = poison
        self.error = error

    async def publish(self, topic: str, events: Sequence[CloudEvent]) -> list[PublishOutcome]:
        found = await super().publish(topic, events)
        if any(each.id == self.poison for each in events):
            raise self.error
        return found


@pytest.mark.parametrize(
    "error",
    [
        error_of("MESSAGE_TOO_LARGE", "too large", code="RESOURCE_EXHAUSTED"),
        error_of("REQUEST_INVALID", "no", code="INVALID_ARGUMENT"),
        error_of("TRANSPORT", "Received message larger than max", code="RESOURCE_EXHAUSTED"),
    ],
)
async def test_one_record_that_spoils_its_call_is_found_and_the_others_are_stored_in_order(
    error: EntenteClientError,
) -> None:
    progress = Progress()
    exchange = Choosy("d", error)
    refused = await publishing(exchange, progress).publish([taken(each) for each in "abcde"])
    assert [each.taken.record.origin["offset"] for each in refused] == ["d"]
    assert refused[0].cause.startswith(error.reason)
    assert exchange.calls == ["abcde", "ab", "cde", "c", "de", "d", "e"]
    assert progress.records == 4


@pytest.mark.parametrize(
    "error",
    [
        error_of("TOPIC_NOT_FOUND", "no", code="NOT_FOUND"),
        error_of("PUBLISH_DENIED", "no", code="PERMISSION_DENIED"),
        error_of("TOKEN_EXPIRED", "no", code="UNAUTHENTICATED"),
        error_of("LIMIT_EXCEEDED", "no", code="RESOURCE_EXHAUSTED"),
        error_of("TRANSPORT", "no", code="UNAVAILABLE"),
    ],
)
async def test_a_call_that_is_refused_as_a_whole_fails_the_task_and_blames_no_record(
    error: EntenteClientError,
) -> None:
    exchange = Choosy("a", error)
    with pytest.raises(EntenteClientError) as told:
        await publishing(exchange).publish([taken("a"), taken("b")])
    assert told.value is error
    assert exchange.calls == ["ab"]
