"""Small files go to the exchange together, and each of them ends as it would have alone."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from connectors.files.disk import FileState
from connectors.files.group import in_one_call
from connectors.files.settings import Form
from connectors.files.watching import Waiting
from connectors.publishing import BATCH_BYTES
from connectors.runtime.model import ConnectorFailed
from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent
from tests.fakes.connected import FakeExchange, task_of
from tests.unit.test_file_source import Place, place, record, sent

__all__ = ["place"]


def fill(place: Place, count: int) -> None:
    """So many files of a record each."""
    for number in range(count):
        place.put(f"{number:04}.json", record(number))


def numbers(exchange: FakeExchange) -> list[int]:
    return [json.loads(data)["n"] for data in exchange.data]


def refusing(*refused: int) -> FakeExchange:
    """An exchange that does not take these."""

    def refuse(event: CloudEvent) -> str | None:
        return "LABEL_INVALID" if json.loads(event.binary_data)["n"] in refused else None

    return FakeExchange(refuse)


def waiting(name: str, form: Form, size_bytes: int) -> Waiting:
    return Waiting(name, form, FileState(0, 0, size_bytes, 0), ready=True)


def grouped(files: Sequence[Waiting]) -> list[str]:
    return ["".join(each.name for each in together) for together in in_one_call(files)]


def test_only_small_files_of_one_record_share_a_call_and_the_order_stays() -> None:
    third = BATCH_BYTES // 3
    files = [waiting(name, "json", third) for name in "abcd"]
    assert grouped(files) == ["abc", "d"]
    assert grouped([*files[:2], waiting("L", "jsonl", 1), *files[2:]]) == ["ab", "L", "cd"]
    assert grouped([files[0], waiting("B", "json", BATCH_BYTES + 1), *files[1:]]) == ["a", "B", "bcd"]
    assert grouped([waiting("L", "jsonl", 1), waiting("M", "jsonl", 1)]) == ["L", "M"]
    assert [len(each) for each in grouped([waiting("x", "json", 1)] * 250)] == [100, 100, 50]
    assert grouped([]) == []


async def test_many_files_take_few_calls(place: Place) -> None:
    fill(place, 250)
    exchange = FakeExchange()
    task = await sent(place, exchange, poll_s=0.2)
    assert numbers(exchange) == list(range(250))
    assert exchange.calls == 3
    assert len(place.names(place.done)) == 250
    assert (task.progress.records, task.progress.lag_records) == (250, 0)


async def test_a_record_that_stops_the_connector_is_stopped_at_and_nothing_behind_it_is_sent(
    place: Place,
) -> None:
    fill(place, 5)
    place.put("0002.json", record(2, None))
    exchange = FakeExchange()
    with pytest.raises(ConnectorFailed, match=r"file 0002\.json: UNMAPPED"):
        await place.source().run(task_of(exchange))
    assert numbers(exchange) == [0, 1]
    assert place.names(place.done) == ["0000.json", "0001.json"]
    place.put("0002.json", record(2))
    await sent(place, exchange)
    assert numbers(exchange) == list(range(5))


async def test_what_the_exchange_refuses_stops_it_there_and_what_came_behind_is_not_stored_twice(
    place: Place,
) -> None:
    fill(place, 5)
    exchange = refusing(2)
    task = task_of(exchange)
    with pytest.raises(ConnectorFailed, match=r"file 0002\.json: LABEL_INVALID"):
        await place.source().run(task)
    assert place.names(place.done) == ["0000.json", "0001.json"]
    exchange.refuse = lambda _: None
    await sent(place, exchange)
    assert sorted(numbers(exchange)) == list(range(5))
    assert len(place.names(place.done)) == 5


@pytest.mark.parametrize("on_error", ["skip", "dead-letter"])
async def test_refused_files_keep_no_other_back(place: Place, on_error: str) -> None:
    fill(place, 6)
    place.put("0004.json", record(4, None))
    task = await sent(place, exchange := refusing(1), on_error=on_error)
    assert numbers(exchange) == [0, 2, 3, 5]
    assert task.progress.records == 4
    kept = [name for name in place.names(place.failed) if not name.endswith(".cause.json")]
    assert len(kept) == (2 if on_error == "dead-letter" else 0)
    assert len(place.names(place.done)) == (4 if on_error == "dead-letter" else 6)


async def test_a_file_that_changes_or_goes_meanwhile_keeps_no_other_back(place: Place) -> None:
    fill(place, 4)
    exchange = FakeExchange()

    async def meddle() -> None:
        exchange.before_answer = None
        place.put("0001.json", record(100))
        (place.outgoing / "0002.json").unlink()

    exchange.before_answer = meddle
    await sent(place, exchange)
    assert numbers(exchange) == [0, 1, 2, 3, 100]
    assert place.names(place.done) == ["0000.json", "0001.json", "0003.json"]
