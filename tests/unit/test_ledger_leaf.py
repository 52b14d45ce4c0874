"""How entries are stored: the form by hand, round trips, every changed byte found, and parts that are shown one by one."""

from __future__ import annotations

import base64
import json
import string
from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256, shake_256

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from broker.core.ledger.leaf import (
    LISTS,
    SALT_BYTES,
    EntryInvalid,
    check,
    encode,
    group_of,
    item_hash,
    item_salts,
    open_entry,
    read_leaf,
    read_openings,
)
from broker.core.merkle.hashing import leaf_hash
from broker.core.merkle.proofs import inclusion_proof, subtrees_of, verify_inclusion
from broker.model.ledger import EncodedEntry, JsonValue, LedgerEntry

PLENTY = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
SALT = bytes(range(SALT_BYTES))
ROOT = bytes(range(100, 132))
_BASE64 = f"{string.ascii_letters}{string.digits}+/".encode()

scalars = (
    st.none()
    | st.booleans()
    | st.integers(1 - 2**53, 2**53 - 1)
    | st.floats(-(2.0**52), 2.0**52)
    | st.text(max_size=8)
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
names = st.sampled_from(["who", "class", "count", "places", "call", "z"]) | st.from_regex(
    r"[a-z_]{1,12}", fullmatch=True
)


@st.composite
def entries(draw: st.DrawFn) -> LedgerEntry:
    singles = draw(st.dictionaries(names.filter(lambda name: name not in LISTS), values, max_size=4))
    lists = draw(st.dictionaries(st.sampled_from(sorted(LISTS)), st.lists(values, max_size=4), max_size=2))
    roots = draw(
        st.dictionaries(st.sampled_from(["handed_out", "elsewhere"]), st.binary(min_size=32, max_size=32))
    )
    body: dict[str, JsonValue] = {"rules": {"revision": "r", "engine": "opa"}, **singles, **lists}
    return LedgerEntry(
        draw(st.text(min_size=1, max_size=10)),
        draw(st.integers(0, 2**53 - 1)),
        body,
        {name: root for name, root in roots.items() if name not in body},
    )


salts = st.binary(min_size=SALT_BYTES, max_size=SALT_BYTES)


def part_root(first: int, contents: list[bytes]) -> str:
    """What a leaf of one or two items commits to, from the documented form alone; first: the number of the first item."""
    stream = shake_256(b"entente item salts v1\0" + SALT).digest(32 * 9)
    hashes = [
        sha256(b"\x00" + stream[32 * n : 32 * n + 32] + content).digest()
        for n, content in enumerate(contents, first)
    ]
    return (hashes[0] if len(hashes) == 1 else sha256(b"\x01" + hashes[0] + hashes[1]).digest()).hex()


ENTRY = LedgerEntry(
    "delivery",
    1_760_000_000_123,
    {
        "rules": {"revision": "abc", "engine": "opa 1.22.2"},
        "receivers": [{"subject": "b"}, {"subject": "a"}],
        "count": 2,
        "places": [[0, 7, 0], [1, 9, 0]],
        "records": [],
    },
    {"handed_out": ROOT},
)


def test_the_form_by_hand() -> None:
    encoded = encode(ENTRY, "broker", 3, 41, SALT)
    parts = {
        "handed_out": ROOT.hex(),
        "receivers": part_root(0, [b'["receivers",{"subject":"b"}]', b'["receivers",{"subject":"a"}]']),
        "records": sha256().hexdigest(),
        "sealed": part_root(
            2, [b'["places",[[0,7,0],[1,9,0]]]\t["rules",{"engine":"opa 1.22.2","revision":"abc"}]']
        ),
        "shown": part_root(3, [b'["count",2]']),
    }
    leaf = {"epoch": 3, "index": 41, "instance": "broker", "kind": "delivery", "parts": parts}
    leaf |= {"time_ms": 1_760_000_000_123, "v": 1}
    assert encoded.leaf == json.dumps(leaf, separators=(",", ":")).encode()
    assert encoded.openings.split(b"\t") == [
        b'["salt","%b"]' % base64.b64encode(SALT),
        b'["receivers",{"subject":"b"}]',
        b'["receivers",{"subject":"a"}]',
        b'["records"]',
        b'["places",[[0,7,0],[1,9,0]]]',
        b'["rules",{"engine":"opa 1.22.2","revision":"abc"}]',
        b'["count",2]',
    ]


@PLENTY
@given(entries(), salts, st.integers(0, 2**53 - 1), st.integers(0, 2**53 - 1))
def test_entries_round_trip(entry: LedgerEntry, salt: bytes, epoch: int, index: int) -> None:
    encoded = encode(entry, "broker-2", epoch, index, salt)
    assert b"\n" not in encoded.leaf + encoded.openings
    leaf, opened = open_entry(encoded)
    assert (leaf.instance, leaf.epoch, leaf.index) == ("broker-2", epoch, index)
    assert (leaf.kind, leaf.time_ms) == (entry.kind, entry.time_ms)
    assert opened == entry


@PLENTY
@given(entries(), salts)
def test_an_erased_entry_keeps_its_commitments(entry: LedgerEntry, salt: bytes) -> None:
    encoded = encode(entry, "broker", 1, 0, salt)
    leaf, erased = open_entry(replace(encoded, openings=b""))
    assert erased.body == {}
    assert erased.roots == leaf.parts
    assert set(leaf.parts) == {*map(group_of, entry.body), *entry.roots}


def _opens(leaf: bytes, openings: bytes) -> bool:
    try:
        open_entry(EncodedEntry(leaf, openings))
    except EntryInvalid as error:
        assert "\n" not in str(error)
        return False
    return True


@PLENTY
@given(entries(), salts, st.data())
def test_a_changed_byte_of_the_openings_is_found(
    entry: LedgerEntry, salt: bytes, data: st.DataObject
) -> None:
    encoded = encode(entry, "broker", 1, 0, salt)
    position = data.draw(st.integers(0, len(encoded.openings) - 1))
    for value in {
        data.draw(st.integers(0, 255)),
        *(encoded.openings[position] ^ 1 << bit for bit in range(8)),
    }:
        changed = bytearray(encoded.openings)
        changed[position] = value
        assert _opens(encoded.leaf, bytes(changed)) == (bytes(changed) == encoded.openings)


def test_every_changed_bit_of_an_entry_is_found() -> None:
    encoded = encode(ENTRY, "broker", 3, 41, SALT)
    for position in range(len(encoded.openings)):
        for bit in range(8):
            changed = bytearray(encoded.openings)
            changed[position] ^= 1 << bit
            assert not _opens(encoded.leaf, bytes(changed)), (position, bit)
    hashes = {leaf_hash(encoded.leaf)}
    for position in range(len(encoded.leaf)):
        changed = bytearray(encoded.leaf)
        changed[position] ^= 1
        hashes.add(leaf_hash(bytes(changed)))
        _opens(bytes(changed), encoded.openings)  # whatever it is, no other error
    assert len(hashes) == len(encoded.leaf) + 1


@PLENTY
@given(st.binary(max_size=200), st.binary(max_size=200))
def test_garbage_is_refused_in_one_line(leaf: bytes, openings: bytes) -> None:
    assert not _opens(leaf, openings)
    assert not _opens(encode(ENTRY, "broker", 3, 41, SALT).leaf, b"x" + openings)


def _reordered() -> list[bytes]:
    salt, one, two, none, places, rules, count = encode(ENTRY, "broker", 3, 41, SALT).openings.split(b"\t")
    return [
        b"\t".join(items)
        for items in (
            [one, two, none, places, rules, count],  # no salt
            [salt, salt, one, two, none, places, rules, count],
            [salt, one, two, none, rules, places, count],  # parts in another order
            [salt, count, places, one, two, none, rules],
            [salt, two, one, none, places, rules, count],  # items in another order
            [salt, one, none, places, rules, count],  # an item less
            [salt, one, two, two, none, places, rules, count],
            [salt, one, none, two, places, rules, count],  # a part in two pieces
            [salt, one, two, none, places, rules, count, count],
            [salt, one, two, none, none, places, rules, count],
            [salt, b'["receivers"]', one, two, none, places, rules, count],
            [salt, one, two, b'["receivers"]', none, places, rules, count],
            [salt, b'["receivers"]', none, places, rules, count],
            [salt, one, two, none, places, rules, b'["count"]'],
            [salt, one, two, none, places, rules, count, b'["count",3]'],
            [salt, one, two, none, b'["handed_out",1]', places, rules, count],
            [salt, one, two, none, places, rules, b'["unknown",1]', count],
            [salt, one, two, none, places, rules, count, b""],
            [salt, one, two, none, places, rules, b'["count", 2]'],
            [salt, one, two, none, places, rules, b'["count",2] '],
            [salt, one, two, none, places, rules, b'["count";2]'],
            [salt, one, two, none, places, rules, b'["count",2}'],
            [salt, one, two, none, places, rules, b'["co\\u0075nt",2]'],
            [salt.replace(b'",', b'", '), one, two, none, places, rules, count],
        )
    ]


@pytest.mark.parametrize("number", range(len(_reordered())))
def test_openings_in_another_form_are_refused(number: int) -> None:
    leaf = encode(ENTRY, "broker", 3, 41, SALT).leaf
    assert not _opens(leaf, _reordered()[number])


@pytest.mark.parametrize("salt", [b"", b"short", SALT + b"\0"])
def test_a_salt_has_its_length(salt: bytes) -> None:
    encoded = encode(ENTRY, "broker", 3, 41, SALT)
    begin = b'["salt","%b"]' % base64.b64encode(salt)
    with pytest.raises(EntryInvalid, match="salt"):
        read_openings(b"\t".join([begin, *encoded.openings.split(b"\t")[1:]]))


def test_a_salts_encoding_has_one_form() -> None:
    encoded = encode(ENTRY, "broker", 3, 41, SALT)
    text = base64.b64encode(SALT)
    # The last character but the padding has two bits that decoding ignores.
    same = [text[:-2] + bytes([c]) + b"=" for c in _BASE64 if c != text[-2]]
    same = [other for other in same if base64.b64decode(other) == SALT]
    assert same
    for other in (*same, text[:-1], text + b"=", b" " + text):
        assert not _opens(encoded.leaf, encoded.openings.replace(text, other))


@PLENTY
@given(entries(), salts, st.data())
def test_openings_of_another_entry_do_not_match(entry: LedgerEntry, salt: bytes, data: st.DataObject) -> None:
    other = data.draw(salts)
    assume(other != salt)
    one, two = (encode(entry, "broker", 1, 0, each) for each in (salt, other))
    assert one.leaf != two.leaf
    assert not _opens(one.leaf, two.openings)


def test_one_item_can_be_shown_without_the_rest() -> None:
    """An item, its salt, its neighbours' hashes: that is all that a receiver needs, and nothing of it opens the others."""
    receivers: list[JsonValue] = [{"subject": f"person-{n}"} for n in range(5)]
    encoded = encode(replace(ENTRY, body={**ENTRY.body, "receivers": receivers}), "broker", 3, 41, SALT)
    leaf, openings = read_leaf(encoded.leaf), read_openings(encoded.openings)
    contents = openings.parts["receivers"]
    items = openings.groups()["receivers"]
    assert [text for _, text in items] == [b'["receivers",%b]' % content for content in contents]
    hashes = [item_hash(*each) for each in items]
    proof = inclusion_proof(2, 5, subtrees_of(hashes))
    shown = item_hash(items[2][0], b'["receivers",{"subject":"person-2"}]')
    verify_inclusion(shown, 2, 5, proof, leaf.parts["receivers"])
    assert not any(sha256(b"\x00" + text).digest() in proof for _, text in items)


def test_every_item_has_a_salt_of_its_own() -> None:
    found = [*item_salts(SALT, 60), *item_salts(bytes(32), 60)]
    assert len(set(found)) == len(found) == 120
    assert all(len(salt) == 32 and salt != SALT for salt in found)
    assert item_salts(SALT, 7) == found[:7]
    assert item_salts(SALT, 0) == []


def test_commitments_share_no_salt_and_an_empty_list_takes_none() -> None:
    groups = read_openings(encode(ENTRY, "broker", 3, 41, SALT).openings).groups()
    assert {name: len(items) for name, items in groups.items()} == {
        "receivers": 2,
        "records": 0,
        "sealed": 1,
        "shown": 1,
    }
    assert [salt for items in groups.values() for salt, _ in items] == item_salts(SALT, 4)


def test_what_is_shown_and_what_is_sealed_lie_apart() -> None:
    """Whoever is shown the one knows nothing of the other, not even whether two entries have it in common."""
    one = read_leaf(encode(ENTRY, "broker", 3, 41, SALT).leaf).parts
    body = {**ENTRY.body, "places": [[0, 8, 0], [1, 9, 0]]}
    other = read_leaf(encode(replace(ENTRY, body=body), "broker", 3, 41, SALT).leaf).parts
    assert {name for name in one if one[name] != other[name]} == {"sealed"}
    again = read_leaf(encode(ENTRY, "broker", 3, 41, bytes(32)).leaf).parts
    assert {name for name in one if one[name] == again[name]} == {"handed_out", "records"}


def test_equal_values_are_not_seen_to_be_equal() -> None:
    twice: Mapping[str, JsonValue] = {"records": ["same", "same"], "who": "same", "rules": "same"}
    leaf = read_leaf(encode(LedgerEntry("publish", 1, twice), "broker", 1, 0, SALT).leaf)
    assert leaf.parts["shown"] != leaf.parts["sealed"]
    hashes = [item_hash(salt, b'"same"') for salt in item_salts(SALT, 2)]
    assert hashes[0] != hashes[1]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"who": float("nan")}, "canonical"),
        ({"who": 2**53}, "canonical"),
        ({"who": "\ud800"}, "canonical"),
        ({"receivers": {"a": 1}}, "is a list"),
        ({"records": "text"}, "is a list"),
        ({"": 1}, "name"),
        ({'a"b': 1}, "name"),
        ({"A": 1}, "name"),
        ({"a\n": 1}, "name"),
    ],
)
def test_what_cannot_be_stored_is_refused(body: Mapping[str, JsonValue], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        encode(LedgerEntry("kind", 1, body), "broker", 1, 0, SALT)


def _leaves() -> list[bytes]:
    good = encode(ENTRY, "broker", 3, 41, SALT).leaf
    return [
        b"",
        b"[]",
        b"null",
        good[:-1],
        good + b"x",
        good.replace(b'"v":1', b'"v":2'),
        good.replace(b'"v":1', b'"v":true'),
        good.replace(b'"v":1', b'"v":1,"more":1'),
        good.replace(b',"v":1', b""),
        good.replace(b'"index":41', b'"index":"41"'),
        good.replace(b'"index":41', b'"index":41.0'),
        good.replace(b'"instance":"broker"', b'"instance":1'),
        good.replace(b'"kind":"delivery"', b'"kind":null'),
        good.replace(ROOT.hex().encode(), b"00"),
        good.replace(ROOT.hex().encode(), b"x" * 64),
        good.replace(b'"' + ROOT.hex().encode() + b'"', b"null"),
        good.replace(b'"parts":{', b'"parts":[{').replace(b'},"time', b'}],"time'),
    ]


@pytest.mark.parametrize("number", range(len(_leaves())))
def test_other_leaves_are_refused(number: int) -> None:
    with pytest.raises(EntryInvalid):
        read_leaf(_leaves()[number])


def test_check_names_the_part_that_does_not_match() -> None:
    encoded = encode(ENTRY, "broker", 3, 41, SALT)
    other = encode(replace(ENTRY, body={**ENTRY.body, "count": 3}), "broker", 3, 41, SALT)
    with pytest.raises(EntryInvalid, match="'shown'"):
        check(read_leaf(encoded.leaf), read_openings(other.openings))
