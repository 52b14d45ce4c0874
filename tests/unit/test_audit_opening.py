"""Entries opened on their bytes: the same as the ledger's own reading, and nothing changed goes unnoticed."""

from __future__ import annotations

import random
import re
from dataclasses import replace

import orjson
import pytest

from broker.core.audit import opening
from broker.core.audit.forms import PARTS
from broker.core.audit.kinds import KINDS, ROOTS
from broker.core.audit.opening import Cache, Opened, Opener, parse
from broker.core.audit.opening import open_entry as open_bytes
from broker.core.ledger.leaf import EntryInvalid, encode
from broker.core.ledger.leaf import open_entry as open_slowly
from broker.core.merkle.hashing import leaf_hash
from broker.model.ledger import EncodedEntry, JsonValue, LedgerEntry
from tests.fakes.ledgers import FakeLedgers, make_ledgers


def open_entry(encoded: EncodedEntry, cache: Cache) -> Opened:
    return open_bytes(encoded.leaf, encoded.openings, cache)


@pytest.fixture(scope="module")
def ledgers() -> FakeLedgers:
    return make_ledgers(seed=11, rounds=150, instances=("broker",))


def test_it_reads_what_the_ledger_reads(ledgers: FakeLedgers) -> None:
    cache = Cache()
    kinds = set()
    for index, encoded in enumerate(ledgers.instances["broker"].entries):
        opened = open_entry(encoded, cache)
        leaf, entry = open_slowly(encoded)
        kinds.add(opened.kind)
        assert (opened.instance, opened.index) == ("broker", index)
        assert (opened.epoch, opened.kind, opened.time_ms) == (leaf.epoch, leaf.kind, leaf.time_ms)
        assert opened.taken is not None
        assert {name: opened.value(name) for name in PARTS[opened.kind]} == dict(entry.body)
        assert all(
            opened.shared(name) == entry.body[name] for name in ("rules", *entry.body.keys() & {"who"})
        )
    assert kinds >= {"delivery", "publish", "acknowledged", "moved", "stream_opened", "stream_closed"}


def test_every_changed_byte_is_found(ledgers: FakeLedgers) -> None:
    by_kind = {open_slowly(e)[0].kind: e for e in ledgers.instances["broker"].entries}
    chance = random.Random(1)
    for kind, encoded in by_kind.items():
        before = open_entry(encoded, Cache())
        for part in ("leaf", "openings"):
            content = getattr(encoded, part)
            for at in chance.sample(range(len(content)), min(len(content), 200)):
                changed = bytearray(content)
                changed[at] ^= 1 << chance.randrange(7)
                try:
                    after = open_entry(replace(encoded, **{part: bytes(changed)}), Cache())
                except EntryInvalid:
                    continue
                # What still opens is another leaf, which the tree tells apart.
                assert part == "leaf", f"{kind}: byte {at} of the openings"
                assert after.leaf_hash != before.leaf_hash


def test_entries_in_a_row_are_opened_as_one_by_one(
    ledgers: FakeLedgers, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = ledgers.instances["broker"].entries
    expected = [open_entry(encoded, Cache()) for encoded in entries]
    opener = Opener("broker", 0, Cache())
    slowly: list[bytes] = []

    def noted(leaf: bytes, openings: bytes, cache: Cache) -> Opened:
        slowly.append(leaf)
        return open_bytes(leaf, openings, cache)

    monkeypatch.setattr(opening, "open_entry", noted)
    for encoded, one in zip(entries, expected, strict=True):
        found = opener.open(encoded.leaf, encoded.openings)
        for name in (
            "instance",
            "index",
            "epoch",
            "kind",
            "time_ms",
            "leaf_hash",
            "handed_out",
            "taken",
            "listed",
        ):
            assert getattr(found, name) == getattr(one, name)
        assert found.commitments == one.commitments
    begins = [0, *(n for n in range(1, len(entries)) if expected[n].epoch != expected[n - 1].epoch)]
    assert slowly == [entries[n].leaf for n in begins], "an epoch is learned from its first entry"


def test_in_a_row_every_changed_byte_is_found_too(ledgers: FakeLedgers) -> None:
    entries = ledgers.instances["broker"].entries
    last = {open_slowly(e)[0].kind: n for n, e in enumerate(entries) if n}
    chance = random.Random(2)
    for kind, number in last.items():
        before, encoded = entries[number - 1], entries[number]
        for part in ("leaf", "openings"):
            content = getattr(encoded, part)
            for at in chance.sample(range(len(content)), min(len(content), 80)):
                changed = bytearray(content)
                changed[at] ^= 1 << chance.randrange(7)
                after = replace(encoded, **{part: bytes(changed)})
                opener = Opener("broker", number - 1, Cache())
                opener.open(before.leaf, before.openings)
                try:
                    found = opener.open(after.leaf, after.openings)
                except EntryInvalid:
                    continue
                assert part == "leaf", f"{kind}: byte {at} of the openings"
                assert found.leaf_hash == leaf_hash(after.leaf) != leaf_hash(encoded.leaf)


def test_it_goes_on_after_a_gap_a_fault_and_another_instance(ledgers: FakeLedgers) -> None:
    entries = ledgers.instances["broker"].entries
    opener = Opener("broker", 0, Cache())
    for n in (0, 1, 5, 6, 2):
        assert opener.open(entries[n].leaf, entries[n].openings).index == n
    with pytest.raises(EntryInvalid):
        opener.open(entries[3].leaf, entries[4].openings)
    assert opener.open(entries[4].leaf, entries[4].openings).index == 4
    other = Opener("other", 5, Cache()).open(entries[5].leaf, entries[5].openings)
    assert (other.instance, other.index) == ("broker", 5)


def test_a_commitment_has_one_form(ledgers: FakeLedgers) -> None:
    before, encoded = ledgers.instances["broker"].entries[:2]
    sealed = re.search(rb'"sealed":"([0-9a-f]{64})"', encoded.leaf)
    assert sealed is not None
    for other in (sealed[1].upper(), sealed[1][:2] + b" " + sealed[1][2:]):
        leaf = encoded.leaf.replace(sealed[1], other)
        opener = Opener("broker", 0, Cache())
        opener.open(before.leaf, before.openings)
        for openings in (encoded.openings, b""):
            with pytest.raises(EntryInvalid):
                opener.open(leaf, openings)


def test_an_instance_that_json_escapes_is_no_other(ledgers: FakeLedgers) -> None:
    rules: dict[str, JsonValue] = {"revision": "sha256:0", "engine": "opa"}
    body: dict[str, JsonValue] = {"rules": rules, "step": {}}
    for name in ('a"b', "a\\b", "caf\u00e9", "%s", '","kind":"'):
        opener = Opener(name, 0, Cache())
        for index in range(3):
            made = encode(LedgerEntry("clock_step", 1_767_225_600_000, body), name, 1, index, bytes(32))
            assert (found := opener.open(made.leaf, made.openings)).instance == name
            assert found.index == index


@pytest.mark.parametrize("change", ["drop", "repeat", "swap", "append", "no salt"])
def test_openings_have_one_form(ledgers: FakeLedgers, change: str) -> None:
    encoded = next(e for e in ledgers.instances["broker"].entries if b'"delivery"' in e.leaf)
    salt, *items = encoded.openings.split(b"\t")
    forms = {
        "drop": [salt, *items[1:]],
        "repeat": [salt, items[0], *items],
        "swap": [salt, items[1], items[0], *items[2:]],
        "append": [salt, *items, b'["zzz",1]'],
        "no salt": items,
    }
    with pytest.raises(EntryInvalid):
        open_entry(replace(encoded, openings=b"\t".join(forms[change])), Cache())


def test_erased_openings_leave_the_leaf(ledgers: FakeLedgers) -> None:
    encoded = ledgers.instances["broker"].entries[3]
    erased = open_entry(replace(encoded, openings=b""), Cache())
    assert erased.taken is None
    assert erased.leaf_hash == open_entry(encoded, Cache()).leaf_hash
    with pytest.raises(EntryInvalid):
        erased.value("rules")


def test_a_kind_has_its_parts_and_no_others() -> None:
    salt = bytes(32)
    rules = {"revision": "sha256:0", "engine": "opa"}
    step = encode(LedgerEntry("clock_step", 1, {"rules": rules, "step": {}}), "broker", 1, 0, salt)
    assert open_entry(step, Cache()).kind == "clock_step"
    for kind, body in {
        "clock_step": {"rules": rules},
        "clock_jump": {"rules": rules, "step": {}},
        "preview": {"rules": rules, "step": {}},
    }.items():
        with pytest.raises(EntryInvalid):
            open_entry(encode(LedgerEntry(kind, 1, body), "broker", 1, 0, salt), Cache())


def test_json_has_one_form_only() -> None:
    assert parse(b'{"a":1,"b":[1.5,"\xc3\xa9"]}') == {"a": 1, "b": [1.5, "é"]}
    for content in (b'{"a":1,"a":2}', b'{"b":1,"a":2}', b'{"a": 1}', b"[1e3]", b'"\\u00e9"'):
        with pytest.raises(ValueError):
            parse(content)


def test_a_leaf_that_two_readers_could_read_differently_is_refused(ledgers: FakeLedgers) -> None:
    leaf = ledgers.instances["broker"].entries[0].leaf
    doubled = leaf.replace(b'{"epoch":1,', b'{"epoch":9,"epoch":1,')
    assert orjson.loads(doubled) == orjson.loads(leaf)
    with pytest.raises(EntryInvalid):
        open_entry(EncodedEntry(doubled, b""), Cache())


def test_the_kinds_that_happen_are_the_documented_ones(ledgers: FakeLedgers) -> None:
    for entry in ledgers.instances["broker"].plain:
        assert entry.body.keys() | entry.roots.keys() == KINDS[entry.kind]
        assert entry.roots.keys() <= ROOTS
