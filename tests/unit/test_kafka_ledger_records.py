"""What of a partition's records counts: claims end older epochs in log order, and strangers count for nothing."""

from __future__ import annotations

import pytest

from broker.adapters.kafka.ledger_records import (
    Claim,
    Fold,
    by_owner,
    checkpoint_message,
    claim_message,
    entry_message,
    read_checkpoint,
    read_claim,
)
from broker.adapters.kafka.outbox import Message
from broker.adapters.kafka.span import Entry
from broker.core.ledger.heading import Heading, read_heading
from broker.core.ledger.leaf import encode
from broker.errors import StorageUnavailable
from broker.model.ledger import EncodedEntry, LedgerEntry, ReadPoint, StoredCheckpoint


def entry(epoch: int, index: int, instance: str = "a") -> EncodedEntry:
    return encode(LedgerEntry("publish", 1_000 + index, {"call": index}), instance, epoch, index, b"s" * 32)


def records(*messages: Message, begin: int = 0) -> list[Entry]:
    return [Entry(n, 0, m.key or b"", m.value) for n, m in enumerate(messages, begin)]


def claim(epoch: int, instance: str = "a", nonce: str = "n") -> Message:
    return claim_message(instance, Claim(epoch, nonce))


def stored(epoch: int, index: int, instance: str = "a") -> Message:
    return entry_message(instance, entry(epoch, index))


def taken(*messages: Message, point: ReadPoint | None = None) -> list[tuple[int, int]]:
    """Epoch and index of what counts."""
    fold = Fold("a", point or ReadPoint())
    headings = [read_heading(each.leaf) for each in fold.take(records(*messages))]
    return [(each.epoch, each.index) for each in headings if each is not None]


def test_an_entry_keeps_its_bytes_and_takes_its_time() -> None:
    message = entry_message("a", entry(1, 7))
    assert (message.key, message.timestamp_ms) == (b"a", 1_007)
    (found,) = Fold("a", ReadPoint()).take(records(message))
    assert found == entry(1, 7)
    assert read_heading(found.leaf) == Heading(1, 7, 1_007)


def test_entries_of_an_epoch_that_has_ended_are_void() -> None:
    assert taken(
        claim(1), stored(1, 0), claim(3), stored(1, 1), stored(3, 1), stored(1, 2), stored(3, 2)
    ) == [(1, 0), (3, 1), (3, 2)]


def test_a_claim_of_an_epoch_that_is_in_force_or_over_changes_nothing() -> None:
    assert taken(claim(3, nonce="won"), claim(3, nonce="lost"), claim(2), stored(3, 0), stored(2, 0)) == [
        (3, 0)
    ]


def test_strangers_count_for_nothing() -> None:
    assert taken(claim(1), claim(9, "b"), stored(1, 0), stored(9, 5, "b"), stored(1, 1)) == [(1, 0), (1, 1)]


def test_where_retention_took_the_claim_the_first_entry_says_which_epoch_is_in_force() -> None:
    assert taken(stored(3, 8), stored(1, 8), stored(3, 9)) == [(3, 8), (3, 9)]


def test_reading_goes_on_with_the_epoch_that_was_in_force() -> None:
    fold = Fold("a", ReadPoint())
    assert len(fold.take(records(claim(1), stored(1, 0), claim(4)))) == 1
    assert fold.point == ReadPoint(3, 4, 1)
    again = Fold("a", fold.point)
    assert len(again.take(records(stored(1, 1), stored(4, 1), begin=3))) == 1
    assert again.point == ReadPoint(5, 4, 2)


@pytest.mark.parametrize(
    "value", [b"", b"{}", b"\xff", b"{}\n{}", b'{"claim":1}', b'{"claim":{"epoch":"9"}}', None]
)
def test_what_is_no_entry_comes_out_for_the_reader_to_refuse(value: bytes | None) -> None:
    fold = Fold("a", ReadPoint())
    found = fold.take([Entry(0, 0, b"a", value)])
    leaf, _, openings = (value or b"").partition(b"\n")
    assert found == (EncodedEntry(leaf, openings),)
    assert fold.point == ReadPoint(1, 0, 0)


def test_an_entry_whose_leaf_tells_no_place_is_not_written() -> None:
    with pytest.raises(ValueError, match="heading"):
        entry_message("a", EncodedEntry(b"{}", b""))


def test_claims_and_checkpoints_come_back() -> None:
    assert read_claim(claim(7, nonce="x").value) == Claim(7, "x")
    assert read_claim(entry_message("a", entry(1, 0)).value) is None
    made = StoredCheckpoint("é/broker\n1\n\n— a b\n".encode(), (b"h" * 32, b"i" * 32))
    assert read_checkpoint(checkpoint_message("a", made).value) == made


@pytest.mark.parametrize(
    "value",
    [None, b"", b"[]", b'{"note":1,"frontier":[]}', b'{"note":"x"}', b'{"note":"x","frontier":["z"]}'],
)
def test_what_is_no_checkpoint_comes_out_as_a_note_that_nobody_signed(value: bytes | None) -> None:
    assert read_checkpoint(value) == StoredCheckpoint(value or b"", ())


@pytest.mark.parametrize(
    "leaf",
    [
        b"",
        b"{}",
        entry(1, 2).leaf[:-1],
        entry(1, 2).leaf + b" ",
        b" " + entry(1, 2).leaf,
        entry(1, 2).leaf.replace(b'"index":2', b'"index":-2'),
        entry(1, 2).leaf.replace(b'"index":2', b'"index":"2"'),
        entry(1, 2).leaf.replace(b'"epoch":1', b'"epoch":' + b"1" * 19),
    ],
)
def test_only_a_leaf_has_a_heading(leaf: bytes) -> None:
    assert read_heading(leaf) is None


def test_an_instance_with_two_partitions_is_refused_and_none_of_them_read() -> None:
    assert by_owner([(0, "a"), (4, "b")]) == {"a": 0, "b": 4}
    with pytest.raises(StorageUnavailable, match="partitions 0 and 4"):
        by_owner([(0, "a"), (4, "a")])
