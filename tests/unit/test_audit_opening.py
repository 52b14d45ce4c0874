"""Entries opened on their bytes: the same as the ledger's own reading, and nothing changed goes unnoticed."""

from __future__ import annotations

import random
from dataclasses import replace

import orjson
import pytest

from broker.core.audit.forms import PARTS
from broker.core.audit.kinds import KINDS, ROOTS
from broker.core.audit.opening import Cache, Opened, parse
from broker.core.audit.opening import open_entry as open_bytes
from broker.core.ledger.leaf import EntryInvalid, encode
from broker.core.ledger.leaf import open_entry as open_slowly
from broker.model.ledger import EncodedEntry, LedgerEntry
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
