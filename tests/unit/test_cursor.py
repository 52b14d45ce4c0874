"""Cursors: opaque, of fixed length, fresh each time, and good for one holder only."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.core.cursor import CURSOR_BYTES, MAX_PARTITIONS, Cursor, CursorBinding, CursorCodec
from broker.errors import EntenteError, Reason

positions = st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=MAX_PARTITIONS).map(tuple)
cursors = st.builds(Cursor, positions, st.integers(0, 2**64 - 1))
texts = st.text(max_size=20)
bindings = st.builds(CursorBinding, texts, texts, st.binary(min_size=16, max_size=16), texts)


class RotatedKeys:
    """Keys by id, the newest one current."""

    def __init__(self, *keys: bytes) -> None:
        self.keys = dict(enumerate(keys))

    def current(self, use: str) -> tuple[int, bytes]:
        assert use == "cursor"
        newest = max(self.keys)
        return newest, self.keys[newest]

    def by_id(self, use: str, key_id: int) -> bytes | None:
        assert use == "cursor"
        return self.keys.get(key_id)


CODEC = CursorCodec(RotatedKeys(b"a" * 32))


def refused(codec: CursorCodec, sealed: bytes, data: bytes, partitions: int) -> bool:
    try:
        codec.open(sealed, data, partitions)
    except EntenteError as error:
        return error.reason is Reason.CURSOR_INVALID
    return False


@given(cursors, bindings)
@settings(max_examples=100)
def test_what_is_sealed_opens(cursor: Cursor, binding: CursorBinding) -> None:
    data = binding.associated_data()
    sealed = CODEC.seal(cursor, data)
    assert CODEC.open(sealed, data, len(cursor.positions)) == cursor
    assert len(sealed) == CURSOR_BYTES


@given(cursors, bindings)
@settings(max_examples=50)
def test_two_are_never_equal(cursor: Cursor, binding: CursorBinding) -> None:
    data = binding.associated_data()
    assert len({CODEC.seal(cursor, data) for _ in range(10)}) == 10


@given(cursors, bindings, st.integers(0, CURSOR_BYTES - 1), st.integers(1, 255))
@settings(max_examples=200)
def test_a_changed_byte_is_refused(cursor: Cursor, binding: CursorBinding, place: int, change: int) -> None:
    data = binding.associated_data()
    sealed = bytearray(CODEC.seal(cursor, data))
    sealed[place] ^= change
    assert refused(CODEC, bytes(sealed), data, len(cursor.positions))


@pytest.mark.parametrize("place", range(CURSOR_BYTES))
def test_every_byte_counts(place: int) -> None:
    data = CursorBinding("a", "s", b"i" * 16).associated_data()
    sealed = bytearray(CODEC.seal(Cursor((1, 2), 3), data))
    sealed[place] ^= 1
    assert refused(CODEC, bytes(sealed), data, 2)


@given(cursors, bindings, bindings)
@settings(max_examples=100)
def test_anothers_is_refused(cursor: Cursor, mine: CursorBinding, other: CursorBinding) -> None:
    sealed = CODEC.seal(cursor, mine.associated_data())
    assert refused(CODEC, sealed, other.associated_data(), len(cursor.positions)) == (mine != other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (CursorBinding("ab", "c", b"i"), CursorBinding("a", "bc", b"i")),
        (CursorBinding("a", "b", b"ic", "d"), CursorBinding("a", "b", b"i", "cd")),
        (CursorBinding("a", "b", b"i", ""), CursorBinding("a", "b", b"i", "s")),
    ],
)
def test_parts_of_a_binding_do_not_run_together(one: CursorBinding, other: CursorBinding) -> None:
    assert one.associated_data() != other.associated_data()


@given(st.binary(max_size=2 * CURSOR_BYTES))
@settings(max_examples=100)
def test_garbage_is_refused(garbage: bytes) -> None:
    assert refused(CODEC, garbage, b"", 1)


def test_another_count_of_partitions_is_refused() -> None:
    sealed = CODEC.seal(Cursor((1, 2, 3), 0), b"d")
    assert refused(CODEC, sealed, b"d", 2)
    assert refused(CODEC, sealed, b"d", 4)


def test_a_retired_key_still_opens_and_an_unknown_one_does_not() -> None:
    sealed = CODEC.seal(Cursor((7,), 1), b"d")
    rotated = CursorCodec(RotatedKeys(b"a" * 32, b"b" * 32))
    assert rotated.open(sealed, b"d", 1) == Cursor((7,), 1)
    fresh = rotated.seal(Cursor((7,), 1), b"d")
    assert fresh[0] == 1
    assert refused(CODEC, fresh, b"d", 1)
    assert refused(CursorCodec(RotatedKeys(b"c" * 32)), sealed, b"d", 1)
