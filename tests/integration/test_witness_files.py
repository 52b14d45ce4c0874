"""What witnesses write to disks: unfinished, damaged, absent, full or shared files, and nothing lost that was promised."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import stat
from pathlib import Path

import pytest

from broker.adapters.witness import state
from broker.adapters.witness.file import FileWitness
from broker.adapters.witness.state import MAX_MISFITS, FileWitnessStore
from broker.errors import StorageUnavailable
from broker.ports.witness import WitnessConflict, WitnessFork, WitnessUnavailable
from broker.ports.witness_store import Misfit
from tests.fakes.clock import TurnedClock
from tests.fakes.witnessed_log import WitnessedLog

LOG = WitnessedLog().grow(30)
SECOND = WitnessedLog("exchange-1/broker-2").grow(30, "second")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An empty file for a new witness."""
    (tmp_path / "checkpoints.jsonl").touch()
    return tmp_path / "checkpoints.jsonl"


def content(path: Path) -> bytes:
    return path.read_bytes()


def replace(path: Path, whole: bytes) -> None:
    path.write_bytes(whole)


def witness_in(path: Path) -> FileWitness:
    return FileWitness("archive", path, TurnedClock())


async def test_each_checkpoint_is_a_line_that_others_can_read(path: Path) -> None:
    witness = witness_in(path)
    await witness.offer(LOG.update(0, 4))
    await witness.offer(LOG.update(4, 9))
    lines = [json.loads(line) for line in content(path).splitlines()]
    assert lines == [
        {
            "origin": LOG.origin,
            "size": size,
            "time_ms": 1_800_000_000_000,
            "note": LOG.checkpoint(size).decode(),
        }
        for size in (4, 9)
    ]


async def test_the_file_is_only_ever_appended_to(path: Path) -> None:
    witness = witness_in(path)
    before = b""
    for old, new in ((0, 4), (4, 9), (9, 9), (9, 30)):
        await witness.offer(LOG.update(old, new))
        assert content(path).startswith(before)
        before = content(path)
    for spoiled in (LOG.update(4, 9), LOG.fork(9).grow(30, "other").update(30)):
        with pytest.raises((WitnessConflict, WitnessFork)):
            await witness.offer(spoiled)
    assert content(path) == before


async def test_wherever_a_crash_cut_the_last_line_the_one_before_counts(path: Path) -> None:
    await witness_in(path).offer(LOG.update(0, 4))
    first = content(path)
    await witness_in(path).offer(LOG.update(4, 9))
    whole = content(path)
    for end in range(len(first), len(whole)):
        replace(path, whole[:end])
        # The last byte is the newline alone: without it the line says all there is to say.
        size = 9 if end == len(whole) - 1 else 4
        witness = witness_in(path)
        assert await witness.latest(LOG.origin) == LOG.checkpoint(size)
        await witness.offer(LOG.update(size, 12))
        assert await witness.latest(LOG.origin) == LOG.checkpoint(12)
        assert content(path).startswith(whole[:end])


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"null\n",
        b"[1]\n",
        b"\xff\xfe\n",
        b"[" * 100_000 + b"\n",
        b'{"origin": "exchange-1/broker"}\n',
        b'{"origin": "exchange-1/broker", "note": 5}\n',
        b'{"origin": "exchange-1/broker", "note": "nothing"}\n',
        json.dumps({"origin": LOG.origin, "note": SECOND.checkpoint().decode()}).encode() + b"\n",
    ],
)
async def test_lines_that_are_no_checkpoints_of_the_origin_do_not_count(path: Path, line: bytes) -> None:
    witness = witness_in(path)
    await witness.offer(LOG.update(0, 4))
    with path.open("ab") as file:
        file.write(line)
    assert await witness.latest(LOG.origin) == LOG.checkpoint(4)
    assert await witness.latest(SECOND.origin) is None


async def test_the_newest_is_found_however_much_another_log_wrote_since(path: Path) -> None:
    witness = witness_in(path)
    await witness.offer(LOG.update(0, 4))
    await witness.offer(SECOND.update(0, 5))
    with path.open("ab") as file:
        line = content(path).splitlines(keepends=True)[1]
        for _ in range(1_000):  # several blocks, with line ends at all places
            file.write(line)
    assert await witness.latest(LOG.origin) == LOG.checkpoint(4)
    assert await witness.latest("exchange-1/nobody") is None


async def test_two_brokers_on_one_file_do_not_mix_their_lines(path: Path) -> None:
    async def write(log: WitnessedLog) -> None:
        witness = witness_in(path)
        for size in range(1, 31):
            await witness.offer(log.update(size - 1, size))

    await asyncio.gather(write(LOG), write(SECOND))
    lines = [json.loads(line) for line in content(path).splitlines()]
    for log in (LOG, SECOND):
        assert [line["size"] for line in lines if line["origin"] == log.origin] == list(range(1, 31))


async def test_a_file_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    """It may be on storage that is not mounted now: a new file would have forgotten everything."""
    witness = witness_in(tmp_path / "absent.jsonl")
    for ask in (witness.latest(LOG.origin), witness.offer(LOG.update(0))):
        with pytest.raises(
            WitnessUnavailable, match=r"archive: .*No such file or directory; mount its storage"
        ):
            await ask
    assert not (tmp_path / "absent.jsonl").exists()


@pytest.mark.parametrize("kind", ["directory", "fifo", "garbage"])
async def test_what_is_no_file_of_lines_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "checkpoints.jsonl"
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.write_bytes(b"x" * 1_000_000)
    with pytest.raises(WitnessUnavailable, match=r"archive: .*checkpoints\.jsonl"):
        await witness_in(path).latest(LOG.origin)


async def test_on_a_full_disk_what_was_promised_stays(path: Path) -> None:
    witness = witness_in(path)
    await witness.offer(LOG.update(0, 4))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(content(path)) + 100, hard))
    try:
        with pytest.raises(WitnessUnavailable, match=r"archive: .*File too large"):
            await witness.offer(LOG.update(4, 9))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert await witness.latest(LOG.origin) == LOG.checkpoint(4)
    await witness.offer(LOG.update(4, 9))
    assert await witness.latest(LOG.origin) == LOG.checkpoint(9)


@pytest.fixture
def store(tmp_path: Path) -> FileWitnessStore:
    """A cosigning witness's memory, new."""
    opened = FileWitnessStore(tmp_path / "state")
    opened.open_for_writing()
    return opened


def test_a_note_is_kept_until_the_next_one(store: FileWitnessStore, tmp_path: Path) -> None:
    assert store.held(LOG.origin) is None
    for size in (4, 9):
        store.keep(LOG.origin, LOG.checkpoint(size))
        assert store.held(LOG.origin) == LOG.checkpoint(size)
    store.close()
    again = FileWitnessStore(tmp_path / "state")
    assert again.held(LOG.origin) == LOG.checkpoint(9)
    assert (tmp_path / "state" / "exchange-1%2Fbroker.checkpoint").read_bytes() == LOG.checkpoint(9)


def test_nothing_of_it_is_for_other_users(store: FileWitnessStore, tmp_path: Path) -> None:
    store.keep(LOG.origin, LOG.checkpoint(4))
    store.record(misfit(4))
    for made in (tmp_path / "state").rglob("*"):
        assert stat.S_IMODE(made.stat().st_mode) & 0o077 == 0, made


@pytest.mark.parametrize("origin", [".", "..", "../../etc/passwd", "a/b", "a%2Fb", "ö/λ", "-rf", "a\\b"])
def test_no_origin_leads_out_of_the_directory_or_to_another(
    store: FileWitnessStore, tmp_path: Path, origin: str
) -> None:
    store.keep(origin, LOG.checkpoint(4))
    store.keep("a_b", LOG.checkpoint(9))
    assert store.held(origin) == LOG.checkpoint(4)
    found = {made.relative_to(tmp_path).parts[0] for made in tmp_path.rglob("*")}
    assert found == {"state"}
    assert len(list((tmp_path / "state").glob("*.checkpoint"))) == 2


def test_an_origin_that_is_too_long_for_a_file_is_refused(store: FileWitnessStore) -> None:
    with pytest.raises(ValueError, match="at most 200"):
        store.held("x" * 201)


def test_what_is_kept_is_synced_before_it_takes_the_old_ones_place(
    store: FileWitnessStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[tuple[str, bytes | None]] = []
    fsync = os.fsync

    def spy(descriptor: int) -> None:
        kind = "directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        done.append((kind, store.held(LOG.origin)))
        fsync(descriptor)

    store.keep(LOG.origin, LOG.checkpoint(4))
    monkeypatch.setattr(state.os, "fsync", spy)
    store.keep(LOG.origin, LOG.checkpoint(9))
    assert done == [("file", LOG.checkpoint(4)), ("directory", LOG.checkpoint(9))]


def test_what_a_killed_process_left_unfinished_is_in_nobodys_way(
    store: FileWitnessStore, tmp_path: Path
) -> None:
    store.keep(LOG.origin, LOG.checkpoint(4))
    (tmp_path / "state" / ".exchange-1%2Fbroker.checkpoint.new").write_bytes(LOG.checkpoint(9)[:50])
    assert store.held(LOG.origin) == LOG.checkpoint(4)
    store.keep(LOG.origin, LOG.checkpoint(30))
    assert store.held(LOG.origin) == LOG.checkpoint(30)


def test_a_directory_belongs_to_one_witness(store: FileWitnessStore, tmp_path: Path) -> None:
    second = FileWitnessStore(tmp_path / "state")
    with pytest.raises(StorageUnavailable, match="in use by another witness"):
        second.open_for_writing()
    store.close()
    second.open_for_writing()
    second.close()


def test_a_disk_that_fails_is_told_in_one_line(store: FileWitnessStore, tmp_path: Path) -> None:
    store.keep(LOG.origin, LOG.checkpoint(4))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50, hard))
    try:
        with pytest.raises(StorageUnavailable, match="File too large; correct the disk"):
            store.keep(LOG.origin, LOG.checkpoint(9))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert store.held(LOG.origin) == LOG.checkpoint(4)


def misfit(number: int) -> Misfit:
    return Misfit("unproven", LOG.origin, 1, LOG.checkpoint(4), LOG.checkpoint(number), 4, (bytes(32),))


def test_evidence_is_bounded(store: FileWitnessStore) -> None:
    """Anybody may send true checkpoints with false proofs."""
    log = WitnessedLog().grow(MAX_MISFITS + 5)
    offered = [
        Misfit("unproven", log.origin, 1, log.checkpoint(0), log.checkpoint(size), 0, ())
        for size in range(log.size)
    ]
    assert [store.record(each) for each in offered].count(True) == MAX_MISFITS
    assert store.record(misfit(4)) is False
    fork = Misfit("fork", log.origin, 1, log.checkpoint(4), log.checkpoint(4), 0, ())
    assert [store.record(fork), store.record(fork)] == [True, False]
    assert store.misfits(log.origin) == MAX_MISFITS + 1
    assert store.misfits(SECOND.origin) == 0
