"""Who has not the exchange's key can make no entry of the control log, and change none."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core.control.encoding import decode, encode_beat, encode_event
from broker.core.control.seal import CONTROL_USE, ControlSeal
from broker.model.control import Beat, ControlEvent

CONTENT = encode_event(ControlEvent("lifted", 1_000, "one", {"id": "s-1", "text": "two\nlines"}))


class SomeKeys:
    """Keys of one use by id; the newest is current."""

    def __init__(self, keys: Mapping[int, bytes]) -> None:
        self._keys = dict(keys)

    def current(self, use: str) -> tuple[int, bytes]:
        assert use == CONTROL_USE
        return max(self._keys.items())

    def by_id(self, use: str, key_id: int) -> bytes | None:
        assert use == CONTROL_USE
        return self._keys.get(key_id)


OLD, NEW = {7: b"o" * 32}, {7: b"o" * 32, 200: b"n" * 32}
SEAL = ControlSeal(SomeKeys(NEW))
SEALED = SEAL.seal(CONTENT)


@pytest.mark.parametrize("content", [CONTENT, encode_beat(Beat("one", "r", 1, 2)), b"", b"\n", b"\n\n7 "])
def test_what_is_sealed_opens_again(content: bytes) -> None:
    assert SEAL.open(SEAL.seal(content)) == content


def test_what_an_earlier_key_sealed_opens_as_long_as_the_key_is_there() -> None:
    assert SEAL.open(ControlSeal(SomeKeys(OLD)).seal(CONTENT)) == CONTENT
    with pytest.raises(ValueError, match=r"key 200 of control\.keys, which is not there"):
        ControlSeal(SomeKeys(OLD)).open(SEALED)


@given(at=st.integers(0, len(SEALED) - 1), bit=st.integers(0, 7))
def test_no_bit_can_be_changed(at: int, bit: int) -> None:
    changed = bytearray(SEALED)
    changed[at] ^= 1 << bit
    with pytest.raises(ValueError):
        SEAL.open(bytes(changed))


@given(st.integers(0, len(SEALED) - 1))
def test_nothing_can_be_cut_off_or_added(at: int) -> None:
    for changed in (SEALED[:at], SEALED[at + 1 :], SEALED + SEALED[at:], SEALED[: at + 1] + SEALED):
        with pytest.raises(ValueError):
            SEAL.open(changed)


@pytest.mark.parametrize(
    "line",
    [b"", b"7", b"7 ", b"-7 x", b"+7 x", b" 7 x", b"7 x", b"1000 x", b"9" * 5_000 + b" x", b"\xd9\xa7 x"],
)
def test_an_entry_without_a_seal_is_none(line: bytes) -> None:
    with pytest.raises(ValueError) as refused:
        SEAL.open(CONTENT + b"\n" + line)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 120


def test_one_key_cannot_speak_for_another() -> None:
    """The id is part of what is sealed: a key that was withdrawn makes nothing that a present one seems to have made."""
    as_old = ControlSeal(SomeKeys(OLD)).seal(CONTENT)
    with pytest.raises(ValueError):
        SEAL.open(as_old.replace(b"\n7 ", b"\n200 "))


def test_keys_of_equal_value_and_other_ids_seal_differently() -> None:
    one, two = (ControlSeal(SomeKeys({key_id: b"k" * 32})).seal(CONTENT) for key_id in (1, 2))
    assert one.rpartition(b" ")[2] != two.rpartition(b" ")[2]


def test_what_opens_is_what_was_written() -> None:
    assert decode(SEAL.open(SEALED)) == decode(CONTENT)
