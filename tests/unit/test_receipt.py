"""Receipts: of one length, never equal, and of no use to anybody but their holder and the exchange."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core.ledger.receipt import RECEIPT_BYTES, Receipt, ReceiptCodec, ReceiptInvalid
from broker.model.ledger import Place
from tests.fakes.delivery import FixedKeys

INSTANCES = st.from_regex(r"[a-z0-9-]{1,32}", fullmatch=True)
NUMBERS = st.integers(0, (1 << 64) - 1)
HASHES = st.binary(min_size=32, max_size=32)
RECEIPT = Receipt(Place("broker", 3, 1_234, b"\x11" * 32), b"\x22" * 32)


class RotatedKeys:
    """A newer key for new work; the old one is kept until it is dropped."""

    def __init__(self) -> None:
        self.keys = {0: b"o" * 32, 1: b"n" * 32}

    def current(self, use: str) -> tuple[int, bytes]:
        assert use == "receipt"
        return max(self.keys.items())

    def by_id(self, use: str, key_id: int) -> bytes | None:
        assert use == "receipt"
        return self.keys.get(key_id)


@given(instance=INSTANCES, epoch=NUMBERS, index=NUMBERS, leaf_hash=HASHES, secret=HASHES)
def test_what_is_sealed_opens_again(
    instance: str, epoch: int, index: int, leaf_hash: bytes, secret: bytes
) -> None:
    receipt = Receipt(Place(instance, epoch, index, leaf_hash), secret)
    sealed = ReceiptCodec(FixedKeys()).seal(receipt, "ems", "p-1")
    assert len(sealed) == RECEIPT_BYTES
    assert ReceiptCodec(FixedKeys()).open(sealed, "ems", "p-1") == receipt


def test_two_receipts_of_one_entry_have_nothing_in_common() -> None:
    codec = ReceiptCodec(FixedKeys())
    first, second = codec.seal(RECEIPT, "ems", "p-1"), codec.seal(RECEIPT, "ems", "p-1")
    assert sum(a == b for a, b in zip(first, second, strict=True)) < RECEIPT_BYTES / 4


@pytest.mark.parametrize("holder", [("ems", "p-2"), ("emsp", "-1"), ("transport", "p-1"), ("p-1", "ems")])
def test_a_receipt_does_not_open_as_anothers(holder: tuple[str, str]) -> None:
    codec = ReceiptCodec(FixedKeys())
    with pytest.raises(ReceiptInvalid, match="not this exchange's"):
        codec.open(codec.seal(RECEIPT, "ems", "p-1"), *holder)


def test_any_changed_byte_and_any_other_length_is_refused() -> None:
    codec = ReceiptCodec(FixedKeys())
    sealed = codec.seal(RECEIPT, "ems", "p-1")
    for place in range(len(sealed)):
        changed = sealed[:place] + bytes([sealed[place] ^ 1]) + sealed[place + 1 :]
        with pytest.raises(ReceiptInvalid):
            codec.open(changed, "ems", "p-1")
    for wrong in (b"", sealed[:-1], sealed + b"\0"):
        with pytest.raises(ReceiptInvalid, match="another length"):
            codec.open(wrong, "ems", "p-1")


def test_receipts_open_as_long_as_their_key_is_kept() -> None:
    keys = RotatedKeys()
    newest = keys.keys.pop(1)
    old = ReceiptCodec(keys).seal(RECEIPT, "ems", "p-1")
    keys.keys[1] = newest
    assert ReceiptCodec(keys).open(old, "ems", "p-1") == RECEIPT
    assert ReceiptCodec(keys).seal(RECEIPT, "ems", "p-1")[0] == 1
    del keys.keys[0]
    with pytest.raises(ReceiptInvalid, match="a key that is not here"):
        ReceiptCodec(keys).open(old, "ems", "p-1")


def test_a_name_that_no_receipt_can_hold_is_refused() -> None:
    long = Receipt(Place("x" * 33, 0, 0, bytes(32)), bytes(32))
    with pytest.raises(ValueError, match="longer than a receipt can hold"):
        ReceiptCodec(FixedKeys()).seal(long, "ems", "p-1")
