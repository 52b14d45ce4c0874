"""What a file sink keeps is there exactly once, at whatever step it is killed, also when files are taken away meanwhile."""

from __future__ import annotations

import json
import os
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from connectors.cloudevents import new_record
from connectors.delivery import Delivery
from connectors.files import disk
from connectors.files.encoding import encode, record_name
from connectors.files.settings import FileSinkSettings
from connectors.files.store import FileStore
from connectors.runtime.model import ConnectorFailed
from protos.entente.v1 import exchange_pb2 as pb
from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent
from tests.fakes.killed import Killed, killed_at

SETTINGS: dict[str, Any] = {
    "plugin": "file-sink",
    "exchange": {"endpoint": "localhost:1", "token_env": "TOKEN"},
    "topic": "crash-reports",
    "purpose": "emergency-response",
    "directory": "in",
}
DISCLOSURE = pb.Disclosure(effect=pb.EFFECT_RELEASE, masked=["pii"], obligations=["delete-after-90-days"])


def store_in(root: Path, **changed: Any) -> FileStore:
    """An open one."""
    (root / "in").mkdir(exist_ok=True)
    settings = FileSinkSettings.model_validate({**SETTINGS, **changed}, context={"directory": root})
    store = FileStore(settings, changed.get("subscription", "intake"))
    store.open()
    return store


def a_record(number: int, **changed: Any) -> CloudEvent:
    chosen: dict[str, Any] = {"id": str(number), "data": {"n": number}, **changed}
    return new_record(type="t", source="//police/x", labels={"dataclassification": "red"}, **chosen)


def a_delivery(number: int = 0, cursor: bytes = b"c", **changed: Any) -> Delivery:
    chosen: dict[str, Any] = {"record": a_record(number), "notice": None, "withdrawal": None, **changed}
    return Delivery(disclosure=DISCLOSURE, cursor=cursor, size_bytes=1, session=1, receipt=b"r", **chosen)


def a_withdrawal(number: int) -> Delivery:
    gone = pb.Withdrawal(source="//police/x", id=str(number), type="t", owner="police", reason="mistaken")
    return a_delivery(record=None, withdrawal=gone)


def a_notice(name: str) -> Delivery:
    return a_delivery(record=None, notice=pb.Notice(id=name, type="t", owner="police", contact="desk@police"))


def visible(directory: Path) -> list[Path]:
    """What a program of the agency would take."""
    found = [path for path in directory.rglob("*") if path.is_file() and not path.name.startswith(".")]
    return sorted(found)


def test_a_record_is_a_file_of_the_cloudevents_json_format(tmp_path: Path) -> None:
    store_in(tmp_path).store([a_delivery(7)], b"1")
    (path,) = visible(tmp_path / "in")
    assert path.name == record_name("//police/x", "7") + ".json"
    assert json.loads(path.read_text()) == {
        "specversion": "1.0",
        "id": "7",
        "source": "//police/x",
        "type": "t",
        "datacontenttype": "application/json",
        "dataclassification": "red",
        "data": {"n": 7},
        "disclosure": {"effect": "release", "masked": ["pii"], "obligations": ["delete-after-90-days"]},
        "receipt": "cg==",
    }
    assert path.stat().st_mode & 0o777 == 0o600


def test_files_may_be_readable_by_the_group_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        store_in(tmp_path, group_readable=True).store([a_delivery(1)], b"1")
        store_in(tmp_path, group_readable=True, format="jsonl").store([a_delivery(2)], b"2")
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "in").glob("*[0-9].json")} <= {0o640}
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "in").glob(".entente-segment*")} == {0o640}


@pytest.mark.parametrize(
    "name",
    ["../../etc/passwd", "/etc/passwd", "..", ".", "a\0b", "a\nb", ".hidden", "x" * 900, "é/ü", "\ud800", ""],
)
def test_no_id_leads_out_of_the_directory(name: str) -> None:
    made = record_name("//police/../../x", name)
    assert set(made) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.")
    assert not made.startswith(".") and ".." not in made and 0 < len(made) < 100


def test_names_are_told_apart_by_source_and_id() -> None:
    made = [record_name(*each) for each in (("//a/x", "1"), ("//a/x1", ""), ("//a/", "x1"), ("//a/x", "1 "))]
    assert len(set(made)) == len(made)


@pytest.mark.parametrize(
    "data", [b'{"x":1e999}', b'{"x":NaN}', b'{"x":"\\ud800"}', b"\xff", b"[" * 5_000, b""]
)
def test_whatever_the_data_are_a_line_of_json_comes_out(data: bytes) -> None:
    line = encode(a_delivery(record=a_record(1, data=data, content_type="text/json")))
    found = json.loads(line, parse_constant=pytest.fail)
    assert line.count(b"\n") == 1 and line.endswith(b"\n")
    assert found["id"] == "1" and found["disclosure"]["effect"] == "release"


def test_what_an_event_says_cannot_pass_for_what_the_exchange_says() -> None:
    forged = a_record(1, attributes={"receipt": "forged", "disclosure": "forged"})
    found = json.loads(encode(a_delivery(record=forged)))
    assert (found["receipt"], found["disclosure"]["effect"]) == ("cg==", "release")


def test_withdrawals_and_notices(tmp_path: Path) -> None:
    store_in(tmp_path).store([a_delivery(1), a_delivery(2), a_withdrawal(1), a_notice("../n")], b"1")
    names = [str(path.relative_to(tmp_path / "in")) for path in visible(tmp_path / "in")]
    one, two = record_name("//police/x", "1"), record_name("//police/x", "2")
    assert [name for name in names if not name.startswith("notices/")] == sorted(
        [f"{one}.json", f"{one}.withdrawn.json", f"{two}.json"]
    )
    (notice,) = (tmp_path / "in" / "notices").iterdir()
    assert json.loads(notice.read_text())["notice"]["contact"] == "desk@police"
    store_in(tmp_path, withdrawn="remove").store([a_withdrawal(2), a_withdrawal(3)], b"2")
    assert not (tmp_path / "in" / f"{two}.json").exists()
    assert (
        json.loads((tmp_path / "in" / f"{two}.withdrawn.json").read_text())["withdrawal"]["reason"]
        == "mistaken"
    )


def test_segments_are_complete_by_lines_bytes_and_age(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_in(tmp_path, format="jsonl", segment_records=3, segment_bytes=10_000, segment_s=60)
    store.store([a_delivery(1), a_delivery(2)], b"1")
    assert visible(tmp_path / "in") == []
    store.store([a_delivery(3), a_withdrawal(1)], b"2")
    (first,) = visible(tmp_path / "in")
    assert first.name == "crash-reports-00000001.jsonl"
    assert [set(json.loads(line)) >= {"withdrawal"} for line in first.read_text().splitlines()] == [
        False
    ] * 3 + [True]
    store.store([a_delivery(4, record=a_record(4, data="x" * 10_000))], b"3")
    assert len(visible(tmp_path / "in")) == 2
    store.store([a_delivery(5)], b"4")
    store.close_segment()
    assert len(visible(tmp_path / "in")) == 2
    with monkeypatch.context() as patched:
        patched.setattr("connectors.files.store.time.time", lambda: 1e12)
        store.close_segment()
    assert len(visible(tmp_path / "in")) == 3
    store.close_segment(now=True)
    assert len(visible(tmp_path / "in")) == 3


def test_numbers_of_a_directory_whose_journal_was_lost_are_not_used_again(tmp_path: Path) -> None:
    for number in range(2):
        store = store_in(tmp_path, format="jsonl")
        store.store([a_delivery(number)], b"1")
        store.close_segment(now=True)
        (tmp_path / "in" / ".entente-connect.json").unlink()
    assert [path.name[-7:] for path in visible(tmp_path / "in")] == ["1.jsonl", "2.jsonl"]


def test_a_directory_belongs_to_one_subscription(tmp_path: Path) -> None:
    store_in(tmp_path).store([a_delivery(1)], b"1")
    for changed in ({"subscription": "other"}, {"topic": "other"}):
        with pytest.raises(
            ConnectorFailed, match="belongs to subscription intake of topic crash-reports"
        ) as refused:
            store_in(tmp_path, **changed)
        assert refused.value.lasting


@pytest.mark.parametrize(
    "changed",
    [
        {"steps": [{"kind": "put", "folder": "records", "name": "../x", "prepared": "y"}]},
        {"steps": [{"kind": "put", "folder": "/etc", "name": "x", "prepared": "y"}]},
        {"steps": [{"kind": "remove", "folder": "records", "name": "", "prepared": ""}]},
        {"place": {"cursor": "?"}},
        {"lines": -1},
        {"more": 1},
    ],
)
def test_a_journal_that_cannot_be_understood_is_not_followed(tmp_path: Path, changed: dict[str, Any]) -> None:
    store_in(tmp_path).store([a_delivery(1)], b"1")
    journal = tmp_path / "in" / ".entente-connect.json"
    journal.write_text(json.dumps(json.loads(journal.read_text()) | changed))
    with pytest.raises(ConnectorFailed, match="cannot be understood"):
        store_in(tmp_path)
    journal.write_text("")
    with pytest.raises(ConnectorFailed, match="cannot be understood"):
        store_in(tmp_path)


def test_a_segment_that_lost_lines_is_not_gone_on_with(tmp_path: Path) -> None:
    store_in(tmp_path, format="jsonl").store([a_delivery(1)], b"1")
    (segment,) = (tmp_path / "in").glob(".entente-segment*")
    os.truncate(segment, 3)
    with pytest.raises(ConnectorFailed, match="has lost lines"):
        store_in(tmp_path, format="jsonl")


def test_links_in_the_directory_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    store = store_in(tmp_path)
    for name in (".entente-1-0.tmp", record_name("//police/x", "1") + ".json"):
        (tmp_path / "in" / name).symlink_to(tmp_path / "victim")
    store.store([a_delivery(1)], b"1")
    segments = store_in(tmp_path, format="jsonl")
    (tmp_path / "in" / ".entente-segment-1.tmp").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match=r"symbolic|links"):
        segments.store([a_delivery(2)], b"2")
    assert (tmp_path / "victim").read_text() == "precious"


BATCHES = [
    [a_delivery(1), a_delivery(2)],
    [a_notice("n1"), a_delivery(3), a_withdrawal(1)],
    [a_delivery(4)],
]


def deliver(store: FileStore) -> None:
    """All batches that the directory does not hold yet, as the exchange would after a seek."""
    at = int(store.place) if isinstance(store.place, bytes) else 0
    for number in range(at, len(BATCHES)):
        store.store(BATCHES[number], str(number + 1).encode())
    store.close_segment(now=True)


@pytest.mark.parametrize("form", ["json", "jsonl"])
@pytest.mark.parametrize("taken_away", [False, True])
def test_killed_at_each_step_every_delivery_is_there_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, taken_away: bool
) -> None:
    # Only the order of the steps is tried here, and a real one takes milliseconds.
    monkeypatch.setattr(os, "fsync", lambda _: None)
    expected = Counter(encode(each) for batch in BATCHES for each in batch)
    for step in range(1, 1_000):
        root = tmp_path / str(step)
        root.mkdir()
        collected: Counter[bytes] = Counter()
        with killed_at(step, monkeypatch) as done, suppress(Killed):
            deliver(store_in(root, format=form, segment_records=3))
        if taken_away:
            collected += take(root)
        # Killed once more on the way back up.
        with killed_at(1 + step % 7, monkeypatch), suppress(Killed):
            deliver(store_in(root, format=form, segment_records=3))
        deliver(store_in(root, format=form, segment_records=3))
        collected += take(root)
        assert collected == expected, f"killed at step {step}"
        left = {path.name for path in root.rglob("*") if path.is_file()}
        assert left <= {".entente-connect.json", "..entente-connect.json.tmp"}
        if done[0] < step:
            assert step > 15
            return
    pytest.fail("there is no end to the steps")


def take(root: Path) -> Counter[bytes]:
    """Read every finished file and take it away."""
    found: Counter[bytes] = Counter()
    for path in visible(root / "in"):
        found.update(path.read_bytes().splitlines(keepends=True))
        path.unlink()
    return found


def test_a_full_disk_leaves_nothing_behind_that_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_in(tmp_path)
    store.store(BATCHES[0], b"1")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(disk.os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            store.store(BATCHES[2], b"3")
    again = store_in(tmp_path)
    assert again.place == b"1"
    assert len(visible(tmp_path / "in")) == 2
