"""The root over what was handed out: the form by hand, what changes it, and what it does not depend on."""

from __future__ import annotations

import hmac
from hashlib import sha256, shake_256

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from broker.core.ledger.handed_out import (
    content_digest,
    derive_secret,
    handed_out_root,
    item_keys,
    root_under,
)
from broker.core.merkle.hashing import EMPTY_ROOT, leaf_hash
from broker.core.merkle.proofs import inclusion_proof, subtrees_of, verify_inclusion

PLENTY = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])

contents = st.binary(min_size=32, max_size=32)
batches = st.lists(contents, min_size=1, max_size=9)
secrets = st.binary(min_size=32, max_size=32)


def test_the_form_by_hand() -> None:
    secret = hmac.digest(b"k" * 32, b"entente handed out v1\0" + b"n" * 16, sha256)
    assert derive_secret(b"k" * 32, b"n" * 16) == secret
    stream = shake_256(b"entente item keys v1\0" + secret).digest(64)
    keys = [stream[:32], stream[32:]]
    assert item_keys(secret, 2) == keys
    items = [
        sha256(b"\x00" + key + content).digest()
        for key, content in zip(keys, (b"a" * 32, b"b" * 32), strict=True)
    ]
    expected = sha256(b"\x01" + items[0] + items[1]).digest()
    assert handed_out_root(secret, [b"a" * 32, b"b" * 32]) == expected
    assert root_under(keys, [b"a" * 32, b"b" * 32]) == expected
    assert content_digest(stream[:32], b"a" * 32) == sha256(stream[:32] + b"a" * 32).digest()


def test_nothing_handed_out() -> None:
    assert item_keys(b"s" * 32, 0) == []
    assert handed_out_root(b"s" * 32, []) == EMPTY_ROOT


def test_as_many_keys_as_contents() -> None:
    with pytest.raises(ValueError, match="zip"):
        root_under(item_keys(b"s" * 32, 2), [b"a" * 32])


@PLENTY
@given(secrets, batches, st.data())
def test_any_change_changes_the_root(secret: bytes, batch: list[bytes], data: st.DataObject) -> None:
    root = handed_out_root(secret, batch)
    n = data.draw(st.integers(0, len(batch) - 1))
    other = bytes([batch[n][0] ^ 1]) + batch[n][1:]
    assert handed_out_root(secret, [*batch[:n], other, *batch[n + 1 :]]) != root
    assert handed_out_root(secret, batch[:-1]) != root
    assert handed_out_root(secret, [*batch, batch[0]]) != root
    assert handed_out_root(bytes([secret[0] ^ 1]) + secret[1:], batch) != root
    swapped = [*batch[1:], batch[0]]
    assert (handed_out_root(secret, swapped) == root) == (swapped == batch)


@PLENTY
@given(secrets, batches, st.data())
def test_who_has_a_delivery_can_show_that_it_was_in_the_batch(
    secret: bytes, batch: list[bytes], data: st.DataObject
) -> None:
    """With its own key and the hashes of the others, and no part of the leaf but the root."""
    keys = item_keys(secret, len(batch))
    hashes = [leaf_hash(key + content) for key, content in zip(keys, batch, strict=True)]
    n = data.draw(st.integers(0, len(batch) - 1))
    proof = inclusion_proof(n, len(batch), subtrees_of(hashes))
    root = handed_out_root(secret, batch)
    verify_inclusion(leaf_hash(keys[n] + batch[n]), n, len(batch), proof, root)


@PLENTY
@given(secrets, secrets, st.integers(0, 50))
def test_equal_contents_look_different(one: bytes, two: bytes, count: int) -> None:
    assume(one != two)
    keys = [*item_keys(one, count), *item_keys(two, count)]
    assert len(set(keys)) == 2 * count
    assert len({leaf_hash(key + leaf_hash(b"")) for key in keys}) == 2 * count
    assert len({content_digest(key, leaf_hash(b"")) for key in keys}) == 2 * count


def test_a_longer_batch_keeps_the_keys() -> None:
    assert item_keys(b"s" * 32, 9)[:4] == item_keys(b"s" * 32, 4)
