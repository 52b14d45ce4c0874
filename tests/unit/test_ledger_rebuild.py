"""What a start makes of what is stored: trees that begin after retention, keys that changed, checkpoints out of order."""

from __future__ import annotations

from dataclasses import replace

import pytest

from broker.core.checkpoint.checkpoint import Checkpoint, sign_checkpoint
from broker.core.ledger import stored_checkpoints
from broker.core.ledger.leaf import encode
from broker.core.ledger.signing import LedgerKeys, origin_of
from broker.core.merkle.hashing import leaf_hash, root_of
from broker.core.merkle.tree import CompactTree
from broker.errors import LedgerRefused
from broker.model.ledger import EncodedEntry, JsonValue, LedgerEntry, StoredCheckpoint
from tests.fakes.ledger_log import (
    EXCHANGE,
    MemoryLedgerLog,
    MemoryStore,
    TestKeys,
    checkpoint_of,
    rebuilt_of,
)


def encoded(index: int, kind: str = "publish", epoch: int = 1, **body: JsonValue) -> EncodedEntry:
    return encode(
        LedgerEntry(kind, 1_000 + index, body or {"call": index}), "broker", epoch, index, b"s" * 32
    )


def stored(entries: list[EncodedEntry], checkpoints: list[StoredCheckpoint]) -> MemoryLedgerLog:
    return MemoryLedgerLog(MemoryStore({"broker": [*entries]}, {"broker": checkpoints}))


def root(entries: list[EncodedEntry]) -> bytes:
    return root_of([leaf_hash(each.leaf) for each in entries])


def at(entries: list[EncodedEntry], *sizes: int) -> list[StoredCheckpoint]:
    return [checkpoint_of(entries[:size]) for size in sizes]


async def refusal(log: MemoryLedgerLog, *, retention: bool = False) -> str:
    with pytest.raises(LedgerRefused) as refused:
        await rebuilt_of(log, retention=retention)
    (finding,) = refused.value.findings
    return finding


ENTRIES = [encoded(n) for n in range(20)]


async def test_nothing_is_an_empty_tree() -> None:
    rebuilt = await rebuilt_of(stored([], []))
    assert rebuilt.tree.size == rebuilt.base.size == rebuilt.newest_size == 0
    assert rebuilt.newest is rebuilt.key is rebuilt.rotated_from is None


async def test_the_newest_checkpoint_is_the_largest() -> None:
    log = stored(ENTRIES, at(ENTRIES, 0, 1, 7, 7, 19))
    rebuilt = await rebuilt_of(log)
    assert rebuilt.tree.root() == root(ENTRIES)
    assert rebuilt.newest == checkpoint_of(ENTRIES[:19])
    assert rebuilt.newest_size == 19


async def test_checkpoints_may_be_stored_slightly_out_of_order() -> None:
    made = at(ENTRIES, 3, 9, 5, 12, 11)
    assert (await rebuilt_of(stored(ENTRIES, made))).newest_size == 12
    wrong = checkpoint_of([*ENTRIES[:4], ENTRIES[0]])
    assert "entry 4: the tree up to it is not that of the checkpoint of size 5" in await refusal(
        stored(ENTRIES, [*made, wrong])
    )


async def test_a_checkpoint_that_comes_much_too_late_is_still_one_that_was_signed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stored_checkpoints, "LOOK_AHEAD", 2)
    made = at(ENTRIES, 3, 5, 7, 9, 4)
    assert (await rebuilt_of(stored(ENTRIES, made))).newest_size == 9
    forged = replace(made[-1], note=made[-1].note.replace(b"\n4\n", b"\n5\n"))
    assert "stored checkpoint 4: " in await refusal(stored(ENTRIES, [*made[:-1], forged]))


@pytest.mark.parametrize("kept_from", [1, 4, 5, 7])
async def test_after_retention_the_tree_goes_on_from_a_checkpoint(kept_from: int) -> None:
    log = stored(ENTRIES[kept_from:], at(ENTRIES, 1, 5, 7, 16))
    rebuilt = await rebuilt_of(log, retention=True)
    assert rebuilt.tree.root() == root(ENTRIES)
    assert rebuilt.base.size == min(size for size in (1, 5, 7) if size >= kept_from)
    assert rebuilt.base.root() == root(ENTRIES[: rebuilt.base.size])


async def test_after_retention_a_gap_that_no_checkpoint_bridges_is_refused() -> None:
    assert "entry 16: it is missing, and no checkpoint leads on from there" in await refusal(
        stored(ENTRIES[17:], at(ENTRIES, 1, 5, 16)), retention=True
    )


async def test_after_retention_a_false_frontier_is_refused() -> None:
    made = at(ENTRIES, 6)
    for frontier in (made[0].frontier[:1], (), tuple(reversed(made[0].frontier))):
        log = stored(ENTRIES[2:], [replace(made[0], frontier=frontier)])
        assert "instance broker, entry 5: " in await refusal(log, retention=True)


async def test_retention_may_take_all_entries_and_the_tree_goes_on() -> None:
    rebuilt = await rebuilt_of(stored([], at(ENTRIES, 5, 20)), retention=True)
    assert rebuilt.tree.size == rebuilt.base.size == 20
    assert rebuilt.tree.root() == root(ENTRIES)
    assert rebuilt.newest == checkpoint_of(ENTRIES)


async def test_what_is_missing_at_the_end_is_refused_with_retention_too() -> None:
    assert "entry 12: it is missing, and a checkpoint covers 20 entries" in await refusal(
        stored(ENTRIES[3:12], at(ENTRIES, 5, 20)), retention=True
    )


async def test_epochs_never_go_back() -> None:
    entries = [encoded(0, epoch=1), encoded(1, epoch=4), encoded(2, epoch=4), encoded(3, epoch=2)]
    assert (await rebuilt_of(stored(entries[:3], []))).tree.size == 3
    assert "entry 3: it is of epoch 2 and follows one of epoch 4" in await refusal(stored(entries, []))


async def test_erased_openings_leave_the_tree_whole() -> None:
    erased = [replace(each, openings=b"") if n % 3 else each for n, each in enumerate(ENTRIES)]
    assert (await rebuilt_of(stored(erased, at(ENTRIES, 20)))).tree.root() == root(ENTRIES)


async def test_a_checkpoint_of_another_instance_is_refused() -> None:
    log = stored(ENTRIES, [checkpoint_of(ENTRIES, "other")])
    assert "stored checkpoint 0: it is of the origin test/other" in await refusal(log)


async def test_a_checkpoint_of_an_unknown_key_is_refused() -> None:
    with pytest.raises(LedgerRefused, match=r"restore .* the retired key that signed it to ledger\.keys"):
        await rebuilt_of(stored(ENTRIES, at(ENTRIES, 3)), keys=TestKeys(5))


def key_text(key_id: int) -> str:
    return LedgerKeys(TestKeys(key_id), EXCHANGE).current.text()


def configuration(index: int, key_id: int) -> EncodedEntry:
    return encoded(index, "configuration", start={"ledger_key": key_text(key_id)})


def rotation(index: int, old: int, new: int, use: str = "ledger") -> EncodedEntry:
    change: JsonValue = {
        "use": use,
        "from": {"id": old, "key": key_text(old)},
        "to": {"id": new, "key": key_text(new)},
    }
    return encoded(index, "key_rotated", change=change)


async def test_the_key_is_the_one_that_the_entries_name_last() -> None:
    entries = [configuration(0, 0), encoded(1), rotation(2, 0, 1), configuration(3, 1), encoded(4)]
    keys = TestKeys(0, 1)
    for count, key, old in ((1, 0, None), (2, 0, None), (3, 1, 0), (5, 1, 0)):
        rebuilt = await rebuilt_of(stored(entries[:count], []), keys=keys)
        assert rebuilt.key is not None
        assert rebuilt.key.text() == key_text(key)
        assert (None if rebuilt.rotated_from is None else rebuilt.rotated_from.text()) == (
            None if old is None else key_text(old)
        )


@pytest.mark.parametrize(("size", "covered"), [(2, False), (3, True), (4, True)])
async def test_a_change_of_keys_is_over_once_a_checkpoint_covers_it(size: int, covered: bool) -> None:
    entries = [configuration(0, 0), encoded(1), rotation(2, 0, 1), configuration(3, 1)]
    tree = CompactTree()
    tree.extend(leaf_hash(each.leaf) for each in entries[:size])
    origin = origin_of(EXCHANGE, "broker")
    signers = [LedgerKeys(TestKeys(n), EXCHANGE).signer(origin, n) for n in (0, 1)]
    note = sign_checkpoint(Checkpoint(origin, size, tree.root()), signers)
    log = stored(entries, [StoredCheckpoint(note, tree.frontier)])
    rebuilt = await rebuilt_of(log, keys=TestKeys(0, 1))
    assert (rebuilt.rotated_from is None) is covered


async def test_entries_that_name_no_key_change_nothing() -> None:
    odd = [
        encoded(0, "configuration", start={"version": "0"}),
        encoded(1, "configuration", start=[1]),
        encoded(2, "configuration", start={"ledger_key": "nonsense"}),
        encoded(3, "key_rotated", change={"use": "cursor", "from": {"id": 0}, "to": {"id": 1}}),
        encoded(4, "key_rotated", change="?"),
    ]
    rebuilt = await rebuilt_of(stored(odd, []))
    assert rebuilt.tree.size == 5
    assert rebuilt.key is rebuilt.rotated_from is None
