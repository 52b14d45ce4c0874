"""The root over what was handed out: the form by hand, and what changes it."""

from __future__ import annotations

import hmac
import struct
from hashlib import sha256, shake_256

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from broker.core.ledger.handed_out import (
    ItemPlace,
    blind,
    content_digest,
    derive_secret,
    handed_out_root,
    item_hash,
    item_keys,
)
from broker.core.merkle.hashing import EMPTY_ROOT, leaf_hash
from broker.core.merkle.proofs import inclusion_proof, subtrees_of, verify_inclusion

PLENTY = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])

places = st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1))
contents = st.binary(min_size=32, max_size=32)
batches = st.lists(st.tuples(places, contents), min_size=1, max_size=9)
secrets = st.binary(min_size=32, max_size=32)


def root_of_batch(secret: bytes, batch: list[tuple[ItemPlace, bytes]]) -> bytes:
    return handed_out_root(secret, [place for place, _ in batch], [content for _, content in batch])


def test_the_form_by_hand() -> None:
    secret = hmac.digest(b"k" * 32, b"entente handed out v1\0" + b"n" * 16, sha256)
    assert derive_secret(b"k" * 32, b"n" * 16) == secret
    stream = shake_256(b"entente item keys v1\0" + secret).digest(64)
    assert item_keys(secret, 2) == [stream[:32], stream[32:]]
    items = []
    for key, place, content in (
        (stream[:32], (3, 41, 0), b"a" * 32),
        (stream[32:], (4, 2**40, 1), b"b" * 32),
    ):
        blinded = sha256(key + struct.pack(">IQI", *place)).digest()
        items.append(sha256(b"\x00" + blinded + content).digest())
    expected = sha256(b"\x01" + items[0] + items[1]).digest()
    assert handed_out_root(secret, [(3, 41, 0), (4, 2**40, 1)], [b"a" * 32, b"b" * 32]) == expected
    assert content_digest(stream[:32], b"a" * 32) == sha256(stream[:32] + b"a" * 32).digest()


def test_nothing_handed_out() -> None:
    assert item_keys(b"s" * 32, 0) == []
    assert handed_out_root(b"s" * 32, [], []) == EMPTY_ROOT


@PLENTY
@given(secrets, batches, st.data())
def test_any_change_changes_the_root(
    secret: bytes, batch: list[tuple[ItemPlace, bytes]], data: st.DataObject
) -> None:
    root = root_of_batch(secret, batch)
    n = data.draw(st.integers(0, len(batch) - 1))
    place, content = batch[n]
    for other in (
        ((place[0] ^ 1, place[1], place[2]), content),
        ((place[0], place[1] ^ 1, place[2]), content),
        ((place[0], place[1], place[2] ^ 1), content),
        (place, bytes([content[0] ^ 1]) + content[1:]),
    ):
        assert root_of_batch(secret, [*batch[:n], other, *batch[n + 1 :]]) != root
    assert root_of_batch(secret, batch[:-1]) != root
    assert root_of_batch(secret, [*batch, batch[0]]) != root
    assert root_of_batch(bytes([secret[0] ^ 1]) + secret[1:], batch) != root
    swapped = [*batch[1:], batch[0]]
    assert (root_of_batch(secret, swapped) == root) == (swapped == batch)


@PLENTY
@given(secrets, batches, st.data())
def test_who_has_a_delivery_can_show_that_it_was_in_the_batch(
    secret: bytes, batch: list[tuple[ItemPlace, bytes]], data: st.DataObject
) -> None:
    """With the blinded items of the others, which say nothing of their places, and no part of the leaf but the root."""
    blinded = [
        blind(key, place) for key, (place, _) in zip(item_keys(secret, len(batch)), batch, strict=True)
    ]
    hashes = [item_hash(b, content) for b, (_, content) in zip(blinded, batch, strict=True)]
    n = data.draw(st.integers(0, len(batch) - 1))
    proof = inclusion_proof(n, len(batch), subtrees_of(hashes))
    root = root_of_batch(secret, batch)
    verify_inclusion(item_hash(blinded[n], batch[n][1]), n, len(batch), proof, root)


@PLENTY
@given(secrets, secrets, st.integers(0, 50), places)
def test_equal_places_and_contents_look_different(
    one: bytes, two: bytes, count: int, place: ItemPlace
) -> None:
    assume(one != two)
    keys = [*item_keys(one, count), *item_keys(two, count)]
    assert len(set(keys)) == 2 * count
    assert len({blind(key, place) for key in keys}) == 2 * count
    assert len({content_digest(key, leaf_hash(b"")) for key in keys}) == 2 * count


def test_a_longer_batch_keeps_the_keys() -> None:
    assert item_keys(b"s" * 32, 9)[:4] == item_keys(b"s" * 32, 4)
