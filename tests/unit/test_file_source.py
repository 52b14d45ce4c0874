"""The file source sends each record of a directory once, loses none, and takes nothing that is no finished plain file."""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from connectors.errors import Unavailable
from connectors.files.source import PLUGIN, FileSource
from connectors.runtime.model import ConnectorFailed, Offset, Redriven
from connectors.runtime.plugin import TaskContext
from tests.fakes.connected import FakeExchange, running, task_of, until
from tests.fakes.killed import Killed, killed_at

SETTINGS: dict[str, Any] = {
    "plugin": "file-source",
    "exchange": {"endpoint": "localhost:1", "token_env": "TOKEN"},
    "topic": "crash-reports",
    "directory": "outgoing",
    "quiet_s": 0,
    "poll_s": 0.01,
    "retry": {"attempts": 3, "first_s": 0.001, "longest_s": 0.001},
    "map": {
        "type": "gov.example.v1",
        "source": "//police/crashes",
        "labels": {"dataclassification": {"path": "$.tlp"}},
    },
}


class Place:
    """A directory for a file source, and the source on it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.outgoing = root / "outgoing"
        self.outgoing.mkdir()
        self.done = self.outgoing / "done"
        self.failed = self.outgoing / "failed"

    def source(self, **changed: Any) -> FileSource:
        """A source with the settings above, but for these."""
        settings = PLUGIN.settings.model_validate({**SETTINGS, **changed}, context={"directory": self.root})
        return PLUGIN.make("drop", settings, self.root / "state")

    def put(self, name: str, *records: Any) -> Path:
        """A file of one record, or of one a line."""
        path = self.outgoing / name
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        return path

    def names(self, directory: Path) -> list[str]:
        """What is there, but for directories."""
        return sorted(each.name for each in directory.iterdir() if each.name not in ("done", "failed"))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


async def sent(place: Place, exchange: FakeExchange, **changed: Any) -> TaskContext:
    """Run a source until nothing waits."""
    task = task_of(exchange)
    async with running(place.source(**changed), task) as run:
        await until(lambda: run.done() or not place.names(place.outgoing))
    return task


def record(number: int, tlp: str | None = "red") -> dict[str, Any]:
    return {"n": number, "tlp": tlp}


async def test_files_are_sent_in_the_order_of_their_names_and_put_away(place: Place) -> None:
    place.put("b.jsonl", record(2), record(3))
    place.put("a.json", record(1))
    exchange = FakeExchange()
    task = await sent(place, exchange)
    assert [json.loads(data)["n"] for data in exchange.data] == [1, 2, 3]
    assert place.names(place.done) == ["a.json", "b.jsonl"]
    assert (task.progress.records, task.progress.lag_records, task.progress.lag_s) == (3, 0, 0.0)


async def test_data_are_the_bytes_of_the_line_or_file(place: Place) -> None:
    (place.outgoing / "a.json").write_bytes(b'\xef\xbb\xbf{"tlp": "red",\n "x":1.0}\n')
    (place.outgoing / "b.jsonl").write_bytes(b'\n{"tlp":"red"}\r\n  \n{"tlp":"amber"}')
    exchange = FakeExchange()
    await sent(place, exchange)
    assert exchange.data == [b'{"tlp": "red",\n "x":1.0}\n', b'{"tlp":"red"}', b'{"tlp":"amber"}']


async def test_what_is_not_finished_or_no_plain_file_is_left_alone(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    (place.root / "secret.json").write_text('{"tlp":"red"}')
    (place.outgoing / "link.json").symlink_to(place.root / "secret.json")
    os.mkfifo(place.outgoing / "pipe.json")
    (place.outgoing / "folder.json").mkdir()
    (place.outgoing / "a\nb.json").write_text('{"tlp":"red"}')
    for name in (".hidden.json", "x.json.tmp", "x.json.part", "readme.txt"):
        (place.outgoing / name).write_text('{"tlp":"red"}')
    before = place.names(place.outgoing)
    exchange = FakeExchange()
    task = task_of(exchange)
    async with running(place.source(), task):
        await until(lambda: task.progress.last_success_s is not None)
    assert exchange.data == []
    assert place.names(place.outgoing) == before
    assert all("\n" not in message for message in caplog.messages)
    assert "'a\\nb.json' is not sent" in caplog.text
    assert "'link.json' is not sent" in caplog.text


async def test_a_file_is_taken_only_when_it_has_been_quiet(place: Place) -> None:
    place.put("a.json", record(1))
    exchange = FakeExchange()
    task = task_of(exchange)
    async with running(place.source(quiet_s=3_600), task):
        await until(lambda: task.progress.lag_records == 1)
        assert exchange.calls == 0
    assert place.names(place.outgoing) == ["a.json"]


async def test_done_never_loses_a_file_of_the_same_name(place: Place) -> None:
    for number in range(3):
        place.put("a.json", record(number))
        await sent(place, FakeExchange())
    found = [json.loads((place.done / name).read_text())["n"] for name in ("a.json", "a.2.json", "a.3.json")]
    assert found == [0, 1, 2]


async def test_fail_stops_before_the_record_and_goes_on_there(place: Place) -> None:
    path = place.put("a.jsonl", record(1), record(2, None), record(3))
    exchange = FakeExchange()
    for _ in range(2):
        with pytest.raises(
            ConnectorFailed, match=r"file a\.jsonl, line 2: UNMAPPED: labels\.dataclassification"
        ):
            await place.source().run(task_of(exchange))
    assert [json.loads(data)["n"] for data in exchange.data] == [1]
    assert exchange.duplicates == 0
    path.write_text(path.read_text().replace("null", '"red"'))
    await sent(place, exchange)
    assert [json.loads(data)["n"] for data in exchange.data] == [1, 2, 3]


async def test_skip_goes_on_without(place: Place) -> None:
    place.put("a.jsonl", record(1), record(2, None), record(3))
    exchange = FakeExchange()
    task = await sent(place, exchange, on_error="skip")
    assert [json.loads(data)["n"] for data in exchange.data] == [1, 3]
    assert (task.progress.records, task.progress.skipped) == (2, 1)
    assert place.names(place.failed) == []


def letters(place: Place) -> list[tuple[bytes, dict[str, Any]]]:
    names = [name for name in place.names(place.failed) if not name.endswith(".cause.json")]
    assert len(names) * 2 == len(place.names(place.failed))
    return [
        ((place.failed / name).read_bytes(), json.loads((place.failed / f"{name}.cause.json").read_text()))
        for name in names
    ]


async def test_dead_letters_are_the_untouched_records_with_their_cause(place: Place) -> None:
    place.put("a.jsonl", record(1), record(2, None), record(3))
    whole = place.put("b.json", record(4)).read_bytes()
    exchange = FakeExchange(lambda event: "LABEL_INVALID" if b'"n": 4' in event.binary_data else None)
    task = await sent(place, exchange, on_error="dead-letter")
    (line, line_cause), (file, file_cause) = letters(place)
    assert line == b'{"n": 2, "tlp": null}\n'
    assert line_cause["origin"] == {"file": "a.jsonl", "line": "2"}
    assert line_cause["cause"].startswith("UNMAPPED: ")
    assert (line_cause["attempt"], line_cause["connector"]) == (1, "drop")
    assert file == whole
    assert file_cause["cause"] == "LABEL_INVALID: refused"
    assert place.names(place.done) == ["a.jsonl"]
    assert (task.progress.records, task.progress.dead_lettered) == (2, 2)


async def test_a_redrive_sends_what_has_been_mended_and_keeps_the_rest(place: Place) -> None:
    place.put("a.jsonl", record(1), record(2, None), record(3, ""))
    exchange = FakeExchange(lambda event: "RECORD_INVALID" if b'"n": 1' in event.binary_data else None)
    await sent(place, exchange, on_error="dead-letter")
    assert len(letters(place)) == 3
    exchange.refuse = lambda _: None
    task = task_of(exchange)
    source = place.source(on_error="dead-letter")
    assert await source.redrive(task, 1) == Redriven(1, 0)
    assert await source.redrive(task, None) == Redriven(2, 2)
    assert [json.loads(data)["n"] for data in exchange.data] == [1]
    assert [cause["attempt"] for _, cause in letters(place)] == [2, 2]
    # The id is what it would have been at first.
    (place.outgoing / "a.jsonl").write_bytes((place.done / "a.jsonl").read_bytes())
    await sent(place, exchange, on_error="skip")
    assert exchange.duplicates == 1


async def test_records_that_are_too_large_are_refused_unread(place: Place) -> None:
    place.put("a.jsonl", record(1), {**record(2), "x": "y" * 200_000}, record(3))
    whole = place.put("b.json", {**record(4), "x": "y" * 200_000}).read_bytes()
    exchange = FakeExchange()
    await sent(place, exchange, on_error="dead-letter", max_record_bytes=1_000)
    assert [json.loads(data)["n"] for data in exchange.data] == [1, 3]
    (line, cause), (file, _) = letters(place)
    assert json.loads(line)["n"] == 2
    assert file == whole
    assert cause["cause"].startswith("RECORD_TOO_LARGE: ")


@pytest.mark.parametrize("size", [998, 999, 1_000, 1_001, 1_002])
async def test_the_limit_holds_to_the_byte_with_and_without_line_end(place: Place, size: int) -> None:
    line = b'{"tlp":"red","x":"' + b"y" * (size - 20) + b'"}'
    assert len(line) == size
    (place.outgoing / "a.jsonl").write_bytes(line + b"\n" + line + b"\r\n" + line)
    exchange = FakeExchange()
    task = await sent(place, exchange, on_error="skip", max_record_bytes=1_000)
    assert (task.progress.records, task.progress.skipped) == ((3, 0) if size <= 1_000 else (0, 3))


async def test_an_empty_file_is_no_record_and_an_empty_jsonl_none(place: Place) -> None:
    place.put("a.json")
    place.put("b.jsonl")
    exchange = FakeExchange()
    task = await sent(place, exchange, on_error="dead-letter")
    assert exchange.data == []
    assert task.progress.dead_lettered == 1
    assert place.names(place.done) == ["b.jsonl"]


async def test_an_outage_is_no_refusal(place: Place) -> None:
    place.put("a.json", record(1))
    answers = iter(["STORAGE_UNAVAILABLE", "LIMIT_EXCEEDED"])
    exchange = FakeExchange(lambda _: next(answers, None))
    task = await sent(place, exchange, on_error="dead-letter")
    assert exchange.data and task.progress.retries == 2
    place.put("b.json", record(2))
    exchange.refuse = lambda _: "STORAGE_UNAVAILABLE"
    with pytest.raises(ConnectorFailed, match="STORAGE_UNAVAILABLE"):
        await place.source(on_error="dead-letter").run(task_of(exchange))
    exchange.fail_with = Unavailable("TRANSPORT", "down", code="UNAVAILABLE")
    with pytest.raises(Unavailable):
        await place.source(on_error="skip").run(task_of(exchange))
    assert place.names(place.outgoing) == ["b.json"]
    assert place.names(place.failed) == []


async def test_a_stop_does_not_wait_for_the_end_of_an_outage(place: Place) -> None:
    place.put("a.json", record(1))
    exchange = FakeExchange(lambda _: "STORAGE_UNAVAILABLE")
    task = task_of(exchange)
    source = place.source(retry={"attempts": 1_000, "first_s": 60, "longest_s": 60})
    run = asyncio.create_task(source.run(task))
    await until(lambda: exchange.calls == 1)
    task.gate.set(stopping=True)
    with pytest.raises(ConnectorFailed, match="STORAGE_UNAVAILABLE"):
        await asyncio.wait_for(run, 30)
    assert place.names(place.outgoing) == ["a.json"]


@pytest.mark.parametrize("reason", ["SUSPENDED", "TOKEN_EXPIRED"])
async def test_what_concerns_the_caller_is_no_refusal_of_a_record(place: Place, reason: str) -> None:
    place.put("a.json", record(1))
    with pytest.raises(ConnectorFailed, match=reason):
        await place.source(on_error="skip").run(task_of(FakeExchange(lambda _: reason)))
    assert place.names(place.outgoing) == ["a.json"]


async def test_killed_at_any_call_nothing_is_lost_or_stored_twice(place: Place) -> None:
    """The task is cut off when the exchange has stored a batch and the source does not know it."""
    place.put("a.jsonl", *(record(number) for number in range(1_700)))
    place.put("b.json", record(1_700))
    exchange = FakeExchange()
    for call in (1, 2, 1, 3, 2):
        last = exchange.calls + call
        reached = asyncio.Event()

        async def hang(last: int = last, reached: asyncio.Event = reached) -> None:
            if exchange.calls == last:
                reached.set()
                await asyncio.Event().wait()

        exchange.before_answer = hang
        run = asyncio.create_task(place.source().run(task_of(exchange)))
        await until(reached.is_set)
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)
    exchange.before_answer = None
    await sent(place, exchange)
    assert [json.loads(data)["n"] for data in exchange.data] == list(range(1_701))
    assert place.names(place.done) == ["a.jsonl", "b.json"]


async def test_a_large_file_goes_on_where_it_was(place: Place) -> None:
    place.put("a.jsonl", *(record(number) for number in range(2_000)))
    exchange = FakeExchange()
    task = task_of(exchange)

    async def stop_at_the_second() -> None:
        if exchange.calls == 2:
            task.gate.set(stopping=True)

    exchange.before_answer = stop_at_the_second
    source = place.source()
    await asyncio.wait_for(source.run(task), 60)
    line = len(exchange.data)
    assert 0 < line < 2_000
    assert Offset(
        {"file": "a.jsonl"}, {"line": line, "byte": sum(len(each) + 1 for each in exchange.data)}
    ) in (
        await source.offsets(exchange)  # type: ignore[arg-type]
    )
    exchange.before_answer = None
    await sent(place, exchange)
    assert len(exchange.data) == 2_000
    assert exchange.duplicates == 0
    assert not (place.root / "state" / "checkpoint.json").exists()


async def test_a_checkpoint_of_another_state_or_no_sense_does_not_count(place: Place) -> None:
    (place.root / "state").mkdir()
    for content in (b"", b"{", b"[1]", b'{"name":"a.jsonl","line":1,"byte":30,"state":{}}'):
        (place.root / "state" / "checkpoint.json").write_bytes(content)
        place.put("a.jsonl", record(1), record(2))
        exchange = FakeExchange()
        await sent(place, exchange)
        assert len(exchange.data) == 2


async def test_a_file_that_changes_while_it_is_read_is_read_anew(place: Place) -> None:
    path = place.put("a.jsonl", *(record(number) for number in range(1_200)))
    exchange = FakeExchange()

    async def grow() -> None:
        exchange.before_answer = None
        with path.open("a") as file:
            file.write(json.dumps(record(1_200)) + "\n")

    exchange.before_answer = grow
    await sent(place, exchange)
    assert [json.loads(data)["n"] for data in exchange.data] == list(range(1_201))


async def test_a_file_put_in_its_place_is_not_put_away_unsent(place: Place) -> None:
    path = place.put("a.json", record(1))
    exchange = FakeExchange()

    async def replace() -> None:
        exchange.before_answer = None
        place.put("new.tmp", record(2)).replace(path)

    exchange.before_answer = replace
    await sent(place, exchange)
    assert [json.loads(data)["n"] for data in exchange.data] == [1, 2]


async def test_offsets_are_set_by_lines(place: Place) -> None:
    place.put("a.jsonl", record(1), record(2), record(3))
    exchange = FakeExchange()
    source = place.source()
    client: Any = exchange
    for offset, why in (
        ({"line": 4}, "only 3"),
        ({"line": -1}, "number of lines"),
        ({"line": "x"}, "number of lines"),
    ):
        with pytest.raises(ValueError, match=why):
            await source.alter_offsets(client, [Offset({"file": "a.jsonl"}, offset)])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="waits"):
        await source.alter_offsets(client, [Offset({"file": "../../etc/passwd"}, {"line": 0})])
    with pytest.raises(ValueError, match="one offset"):
        await source.alter_offsets(client, [])
    await source.alter_offsets(client, [Offset({"file": "a.jsonl"}, {"line": 2})])
    assert (await source.offsets(client))[1].offset == {"line": 2, "byte": 46}
    # What was shown can be given back, and all of it can be reset.
    await source.alter_offsets(client, await source.offsets(client))
    assert (await source.offsets(client))[1].offset == {"line": 2, "byte": 46}
    for shown in (await source.offsets(client), (await source.offsets(client))[:1]):
        await source.alter_offsets(client, [Offset({"file": "a.jsonl"}, {"line": 2})])
        await source.alter_offsets(client, [Offset(each.partition, None) for each in shown])
        assert len(await source.offsets(client)) == 1
    await source.alter_offsets(client, [Offset({"file": "a.jsonl"}, {"line": 2})])
    await sent(place, exchange)
    assert [json.loads(data)["n"] for data in exchange.data] == [3]


async def test_only_one_connector_works_in_a_directory(place: Place) -> None:
    exchange = FakeExchange()
    task = task_of(exchange)
    async with running(place.source(), task):
        await until(lambda: task.progress.last_success_s is not None)
        with pytest.raises(ConnectorFailed, match="another connector works there"):
            await place.source().run(task_of(exchange))


async def test_a_paused_source_takes_up_nothing(place: Place) -> None:
    exchange = FakeExchange()
    task = task_of(exchange)
    task.gate.set(paused=True)
    async with running(place.source(), task):
        place.put("a.json", record(1))
        await asyncio.sleep(0)
        assert exchange.calls == 0
        task.gate.set(paused=False)
        await until(lambda: place.names(place.done) == ["a.json"] if place.done.exists() else False)


async def test_what_would_keep_it_from_working_is_told_before(place: Place) -> None:
    client: Any = FakeExchange(agency="ems")
    found = await place.source(topic="closed").check(client)
    assert [finding.split(":")[0] for finding in found] == ["map.source", "topic closed"]
    with pytest.raises(ConnectorFailed, match="does not begin with //ems/") as refused:
        await place.source().run(task_of(client))
    assert refused.value.lasting
    place.outgoing.chmod(0o777)
    assert "every user may write" in (await place.source().check(client))[0]
    with pytest.raises(ConnectorFailed, match="every user may write"):
        await place.source().run(task_of(client))
    assert "No such file" in (await place.source(directory="nowhere").check(client))[0]
    (place.root / "plain").touch()
    assert "is no directory" in (await place.source(directory="plain", done="a", failed="b").check(client))[0]


def test_done_and_failed_lie_elsewhere(place: Place) -> None:
    with pytest.raises(ValidationError, match="different directories"):
        place.source(done="outgoing")


async def test_a_full_disk_fails_the_task_and_loses_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.put("a.jsonl", record(1), record(2, None))
    exchange = FakeExchange()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("connectors.files.disk.os.fsync", full)
        with pytest.raises(OSError, match="No space left"):
            await place.source(on_error="dead-letter").run(task_of(exchange))
    assert place.names(place.outgoing) == ["a.jsonl"]
    assert [name for name in place.names(place.failed) if not name.startswith(".")] == []
    await sent(place, exchange, on_error="dead-letter")
    assert len(letters(place)) == 1
    assert len(exchange.data) == 1


async def test_killed_at_each_step_every_record_is_sent_or_kept_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Only the order of the steps is tried here, and a real one takes milliseconds.
    monkeypatch.setattr(os, "fsync", lambda _: None)
    for step in range(1, 1_000):
        (tmp_path / str(step)).mkdir()
        place = Place(tmp_path / str(step))
        place.put("a.jsonl", record(1), record(2, None), record(3), record(4, None))
        place.put("b.json", record(5, None))
        place.put("c.json", record(6))
        exchange = FakeExchange()
        task = task_of(exchange)
        with killed_at(step, monkeypatch) as done:
            run = asyncio.create_task(place.source(on_error="dead-letter").run(task))
            await until(lambda place=place, run=run: run.done() or not place.names(place.outgoing))  # type: ignore[misc]
            task.gate.set(stopping=True)
            with suppress(Killed):
                await run
        await sent(place, exchange, on_error="dead-letter")
        assert sorted(json.loads(data)["n"] for data in exchange.data) == [1, 3, 6]
        kept = [json.loads(content)["n"] for content, _ in letters(place)]
        assert sorted(kept) == [2, 4, 5], f"killed at step {step}"
        # An empty file may have taken the name that one was to get.
        put_away = [path for path in place.done.iterdir() if path.stat().st_size]
        assert sorted(path.name[0] for path in put_away) == ["a", "c"]
        if done[0] < step:
            assert step > 20
            return
    pytest.fail("there is no end to the steps")


async def test_a_file_that_cannot_be_put_away_stays_and_leaves_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.put("a.json", record(1))

    def other_device(*_: Any) -> None:
        raise OSError(18, "Invalid cross-device link")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", other_device)
        with pytest.raises(OSError, match="cross-device"):
            await place.source().run(task_of(FakeExchange()))
    assert place.names(place.outgoing) == ["a.json"]
    assert place.names(place.done) == []


async def test_a_folder_that_vanishes_fails_the_task(place: Place) -> None:
    place.put("a.json", record(1))
    exchange = FakeExchange()

    async def vanish() -> None:
        place.done.rmdir()

    exchange.before_answer = vanish
    with pytest.raises(FileNotFoundError, match="done"):
        await place.source().run(task_of(exchange))
    assert place.names(place.outgoing) == ["a.json"]


async def test_a_dead_letter_that_was_replaced_or_has_grown_is_not_sent(place: Place) -> None:
    place.put("a.json", record(1, None))
    place.put("b.jsonl", record(2, None))
    exchange = FakeExchange()
    await sent(place, exchange, on_error="dead-letter")
    (place.root / "secret").write_text(json.dumps(record(3)))
    link, grown = (
        place.failed / name for name in place.names(place.failed) if not name.endswith(".cause.json")
    )
    link.unlink()
    link.symlink_to(place.root / "secret")
    grown.write_text(json.dumps(record(4)) + " " * 1_000)
    source = place.source(max_record_bytes=500)
    assert await source.redrive(task_of(exchange), None) == Redriven(2, 2)
    assert exchange.data == []
    causes = [
        json.loads((place.failed / f"{path.name}.cause.json").read_text())["cause"] for path in (link, grown)
    ]
    assert [cause.split(":")[0] for cause in causes] == ["NO_PLAIN_FILE", "RECORD_TOO_LARGE"]
