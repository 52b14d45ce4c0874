"""The file sink begins each session where its directory stands, acknowledges only what lies there, and says why it stops."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from connectors.cloudevents import new_record
from connectors.delivery import Delivery
from connectors.errors import EntenteClientError, error_of
from connectors.files.sink import PLUGIN, FileSink
from connectors.runtime.model import ConnectorFailed, Offset, Redriven
from connectors.runtime.plugin import TaskContext
from protos.entente.v1 import exchange_pb2 as pb
from tests.fakes.connected import running, task_of, until
from tests.fakes.streamed import FakeTopic

SETTINGS: dict[str, Any] = {
    "plugin": "file-sink",
    "exchange": {"endpoint": "localhost:1", "token_env": "TOKEN"},
    "topic": "crash-reports",
    "purpose": "emergency-response",
    "directory": "in",
    "retry": {"attempts": 4, "first_s": 0.001, "longest_s": 0.001},
}
UNAVAILABLE = error_of("STORAGE_UNAVAILABLE", "later", code="UNAVAILABLE")


def a_sink(root: Path, **changed: Any) -> FileSink:
    (root / "in").mkdir(exist_ok=True)
    settings = PLUGIN.settings.model_validate({**SETTINGS, **changed}, context={"directory": root})
    return PLUGIN.make("Intake", settings, root / "state")


def a_delivery(number: int, **changed: Any) -> Delivery:
    made = new_record(
        id=str(number),
        type="t",
        source="//police/x",
        labels={"dataclassification": "red"},
        data={"n": number},
    )
    made.attributes["recordedtime"].ce_timestamp.FromSeconds(int(time.time()) - 100)
    chosen: dict[str, Any] = {"record": made, "notice": None, "withdrawal": None, **changed}
    return Delivery(
        disclosure=pb.Disclosure(effect=pb.EFFECT_RELEASE), cursor=b"", size_bytes=10, session=1, **chosen
    )


def batches(*sizes: int) -> list[list[Delivery]]:
    numbers = iter(range(1_000_000))
    return [[a_delivery(next(numbers)) for _ in range(size)] for size in sizes]


def held(root: Path) -> list[int]:
    """The numbers of the records in the directory."""
    files = [path for path in (root / "in").glob("*.json*") if not path.name.startswith(".")]
    return sorted(json.loads(line)["data"]["n"] for path in files for line in path.read_text().splitlines())


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connectors.runtime.sink._LOOK_S", 0.01)


async def written(root: Path, topic: FakeTopic, **changed: Any) -> TaskContext:
    """Run a sink until everything is acknowledged."""
    task = task_of(topic, "Intake")
    async with running(a_sink(root, **changed), task) as run:
        await until(lambda: run.done() or topic.position == len(topic.batches))
    return task


@pytest.mark.parametrize("form", ["json", "jsonl"])
async def test_everything_lies_there_once_and_is_acknowledged(tmp_path: Path, form: str) -> None:
    topic = FakeTopic(batches(3, 1, 40, 5))
    task = await written(tmp_path, topic, format=form)
    assert held(tmp_path) == list(range(49))
    assert topic.acked[-1] == b"4"
    assert (task.progress.records, task.progress.bytes) == (49, 490)
    assert topic.choices["subscription"] == "connect-intake"
    assert topic.choices["purpose"] == "emergency-response"


@pytest.mark.parametrize("form", ["json", "jsonl"])
async def test_a_session_begins_where_the_directory_stands(tmp_path: Path, form: str) -> None:
    """The exchange did not get the acknowledgement, or was restored to a state before it."""
    topic = FakeTopic(batches(2, 2, 2))
    await written(tmp_path, topic, format=form)
    topic.position = 1
    await written(tmp_path, topic, format=form)
    assert topic.seeks[-1] == b"3"
    topic.position = None  # the subscription was deleted
    await written(tmp_path, topic, format=form)
    assert held(tmp_path) == list(range(6))


async def test_a_broken_stream_is_opened_anew_and_half_a_batch_is_not_kept(tmp_path: Path) -> None:
    topic = FakeTopic(batches(2, 3, 1, 4))
    topic.failures = [
        (1, UNAVAILABLE),
        (2, error_of("TOKEN_EXPIRED", "renew", code="UNAUTHENTICATED")),
        (0, UNAVAILABLE),
    ]
    task = await written(tmp_path, topic, format="jsonl")
    assert held(tmp_path) == list(range(10))
    assert task.progress.retries == 3
    assert task.progress.records == 10


async def test_an_outage_without_end_fails_the_task(tmp_path: Path) -> None:
    topic = FakeTopic(batches(1))
    topic.failures = [(0, UNAVAILABLE)] * 10
    with pytest.raises(EntenteClientError, match="STORAGE_UNAVAILABLE"):
        await a_sink(tmp_path).run(task_of(topic))
    assert len(topic.failures) == 6


@pytest.mark.parametrize(
    ("reason", "lasting"),
    [
        ("SUBSCRIPTION_TAKEN_OVER", False),
        ("POSITION_EXPIRED", True),
        ("CURSOR_INVALID", True),
        ("SUBSCRIPTION_EXISTS", True),
    ],
)
async def test_what_somebody_must_decide_is_said(tmp_path: Path, reason: str, lasting: bool) -> None:
    topic = FakeTopic(batches(1))
    topic.failures = [(0, error_of(reason, "told", code="FAILED_PRECONDITION"))]
    with pytest.raises(ConnectorFailed) as failed:
        await a_sink(tmp_path).run(task_of(topic))
    assert failed.value.lasting is lasting
    assert held(tmp_path) == []


@pytest.mark.parametrize("reason", ["POLICY_DENIED", "TOPIC_NOT_FOUND"])
async def test_a_revoked_agreement_ends_the_task_and_a_new_grant_goes_on(tmp_path: Path, reason: str) -> None:
    topic = FakeTopic(batches(1, 1))
    topic.failures = [(1, error_of(reason, "revoked", code="PERMISSION_DENIED"))]
    with pytest.raises(EntenteClientError, match=reason):
        await a_sink(tmp_path).run(task_of(topic))
    await written(tmp_path, topic)
    assert held(tmp_path) == [0, 1]


async def test_an_expired_place_goes_on_with_the_earliest_only_if_wanted(tmp_path: Path) -> None:
    topic = FakeTopic(batches(1))
    await written(tmp_path, topic)
    topic.batches += [[a_delivery(6)], [a_delivery(7)]]
    topic.gone = 2
    with pytest.raises(ConnectorFailed, match="POSITION_EXPIRED"):
        await a_sink(tmp_path).run(task_of(topic))
    await written(tmp_path, topic, on_expired="earliest")
    assert held(tmp_path) == [0, 7]


async def test_a_change_of_policy_holds_nothing(tmp_path: Path) -> None:
    change = a_delivery(0, record=None, policy_change=pb.PolicyChange())
    topic = FakeTopic([[change], *batches(2)])
    await written(tmp_path, topic)
    assert held(tmp_path) == [0, 1]


async def test_a_paused_sink_keeps_its_stream_and_writes_nothing(tmp_path: Path) -> None:
    topic = FakeTopic([])
    task = task_of(topic)
    async with running(a_sink(tmp_path), task):
        await until(lambda: topic.open_streams == 1)
        task.gate.set(paused=True)
        topic.batches += batches(1)
        topic.more.set()
        await asyncio.sleep(0)
        assert topic.open_streams == 1
        assert held(tmp_path) == []
        task.gate.set(paused=False)
        await until(lambda: topic.acked == [b"1"])


async def test_that_nothing_waits_is_said_by_a_heartbeat(tmp_path: Path) -> None:
    topic = FakeTopic(batches(1))
    task = task_of(topic)
    async with running(a_sink(tmp_path), task):
        await until(lambda: topic.acked == [b"1"])
        assert (task.progress.lag_s or 0.0) >= 100
        topic.heartbeat = b"9"
        topic.more.set()
        await until(lambda: task.progress.lag_s == 0.0)
        assert task.progress.lag_records is None


async def test_a_place_where_everything_is_withheld_moves_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors.runtime.sink._IDLE_STORE_S", 0)
    topic: Any = FakeTopic(batches(1))
    topic.heartbeat = b"9"
    sink = a_sink(tmp_path)
    task = task_of(topic)
    async with running(sink, task):
        await until(lambda: topic.acked == [b"1"])
        topic.more.set()
        await until(lambda: task.progress.lag_s == 0.0)
    assert (await sink.offsets(topic))[0].offset == {"cursor": "OQ"}


async def test_offsets_are_the_directorys_and_can_be_set(tmp_path: Path) -> None:
    topic: Any = FakeTopic(batches(1, 1, 1))
    sink = a_sink(tmp_path)
    partition = {"subscription": "connect-intake", "topic": "crash-reports"}
    assert await sink.offsets(topic) == [Offset(partition, None)]
    await written(tmp_path, topic)
    assert await sink.offsets(topic) == [Offset(partition, {"cursor": "Mw"})]
    for offset, why in (
        ({"cursor": "?"}, "base64url"),
        ({"line": 1}, "write"),
        ({"from": "now"}, "RFC 3339"),
    ):
        with pytest.raises(ValueError, match=why):
            await sink.alter_offsets(topic, [Offset(partition, offset)])
    with pytest.raises(ValueError, match="one offset"):
        await sink.alter_offsets(topic, [Offset({"file": "x"}, None)])
    for path in (tmp_path / "in").glob("*.json"):
        path.unlink()
    await sink.alter_offsets(topic, [Offset(partition, {"cursor": "Mg"})])
    assert await sink.offsets(topic) == [Offset(partition, {"cursor": "Mg"})]
    topic.position = 0
    await written(tmp_path, topic)
    assert held(tmp_path) == [2]
    await sink.alter_offsets(topic, [Offset(partition, None)])
    assert await sink.offsets(topic) == [Offset(partition, {"from": "earliest"})]
    topic.position = 0
    await written(tmp_path, topic)
    assert held(tmp_path) == [0, 1, 2]


async def test_what_was_prepared_and_does_not_count_is_taken_away_at_the_start(tmp_path: Path) -> None:
    topic = FakeTopic(batches(1))
    await written(tmp_path, topic)
    left = [tmp_path / "in" / ".entente-9-0.tmp", tmp_path / "in" / "notices" / ".entente-9-1.tmp"]
    others = [tmp_path / "in" / ".tmp", tmp_path / "in" / "entente-9-0.tmp"]
    for path in (*left, *others):
        path.touch()
    await written(tmp_path, topic)
    assert not any(path.exists() for path in left)
    assert all(path.exists() for path in others)


async def test_a_full_disk_fails_the_task_and_it_goes_on_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = FakeTopic(batches(1, 1))

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("connectors.files.disk.os.fsync", full)
        with pytest.raises(OSError, match="No space left"):
            await a_sink(tmp_path).run(task_of(topic))
    assert topic.acked == []
    await written(tmp_path, topic)
    assert held(tmp_path) == [0, 1]


async def test_what_would_keep_it_from_working_is_told_before(tmp_path: Path) -> None:
    topic: Any = FakeTopic([])
    assert await a_sink(tmp_path).check(topic) == []
    assert "may not be subscribed to" in (await a_sink(tmp_path, topic="closed").check(topic))[0]
    (tmp_path / "in").chmod(0o777)
    assert "every user may write" in (await a_sink(tmp_path).check(topic))[0]
    with pytest.raises(ConnectorFailed, match="every user may write"):
        await a_sink(tmp_path).run(task_of(topic))
    assert await a_sink(tmp_path).redrive(task_of(topic), None) == Redriven()


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"subscription": "Not Valid"}, "subscription's name"),
        ({"start": "2026-01-31T12:00:00"}, "no zone"),
        ({"withdrawn": "remove", "format": "jsonl"}, "not taken out again"),
        ({"purpose": ""}, "purpose"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(
    tmp_path: Path, changed: dict[str, Any], told: str
) -> None:
    with pytest.raises(ValidationError, match=told):
        a_sink(tmp_path, **changed)
