"""What is done to a ledger after it was written is found, with its place."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

import orjson
import pytest

from broker.core.audit.trust import Trust
from broker.core.audit.verify import Level, Verification, verify
from broker.core.checkpoint.checkpoint import Checkpoint, sign_checkpoint
from broker.core.checkpoint.note import SignedNote, Signer
from broker.core.ledger.leaf import encode, open_entry
from broker.core.merkle.hashing import leaf_hash
from broker.core.merkle.tree import CompactTree
from broker.model.audit import Finding, Severity
from broker.model.ledger import EncodedEntry, StoredCheckpoint
from tests.fakes.ledgers import FakeLedgers, FakeReader, make_ledgers, seed_of

AT = 48


@pytest.fixture(scope="module")
def ledgers() -> FakeLedgers:
    made = make_ledgers(seed=31, rounds=110)
    assert {AT - 1, AT + 1} <= {*span(made, "broker", AT)}, "choose another seed, or another entry"
    return made


def trust(ledgers: FakeLedgers, back: int = 1) -> Trust:
    """All keys, and what a witness held some checkpoints ago."""
    notes = tuple(instance.checkpoints[-back].note for instance in ledgers.instances.values())
    return Trust(tuple(ledgers.keys), notes)


def faults(found: Verification) -> list[Finding]:
    return [finding for finding in found.findings if finding.severity is Severity.FAULT]


def sizes(ledgers: FakeLedgers, instance: str) -> list[int]:
    """Of the checkpoints, each once."""
    stored = ledgers.instances[instance].checkpoints
    return sorted({Checkpoint.parse(SignedNote.parse(each.note).text).size for each in stored})


def span(ledgers: FakeLedgers, instance: str, index: int) -> range:
    """The entries that the first checkpoint after an entry adds to the one before it."""
    known = [0, *sizes(ledgers, instance)]
    above = min(size for size in known if size > index)
    return range(max(size for size in known if size <= index), above)


def forged(encoded: EncodedEntry) -> EncodedEntry:
    """Another entry in its place, which opens well: as whoever can write the store and knows the form would make it."""
    leaf, plain = open_entry(encoded)
    return encode(replace(plain, time_ms=plain.time_ms + 1), leaf.instance, leaf.epoch, leaf.index, b"s" * 32)


@dataclass(frozen=True)
class Case:
    """What is done, and where it must be found: at an entry, or anywhere between two checkpoints."""

    name: str
    change: Callable[[FakeLedgers, FakeReader], object]
    index: Callable[[FakeLedgers], range | int]
    what: str


def flip(part: str, at: int) -> Callable[[FakeLedgers, FakeReader], object]:
    def change(ledgers: FakeLedgers, reader: FakeReader) -> None:
        content = bytearray(getattr(reader.entries["broker"][AT], part))
        content[at] ^= 1
        reader.change("broker", AT, **{part: bytes(content)})

    return change


def flip_time(ledgers: FakeLedgers, reader: FakeReader) -> None:
    """The leaf stays readable and its openings stay true: only the tree tells."""
    entry = reader.entries["broker"][AT]
    leaf = orjson.loads(entry.leaf)
    leaf["time_ms"] += 1
    reader.change("broker", AT, leaf=orjson.dumps(leaf, option=orjson.OPT_SORT_KEYS))


def swap_instances(ledgers: FakeLedgers, reader: FakeReader) -> None:
    one, other = reader.entries["broker"], reader.entries["second"]
    one[AT], other[AT] = other[AT], one[AT]


def other_openings(ledgers: FakeLedgers, reader: FakeReader) -> None:
    same = [n for n, e in enumerate(ledgers.instances["broker"].plain) if e.kind == "delivery" and n > AT]
    entry = reader.entries["broker"][same[0]]
    reader.change("broker", same[1], openings=entry.openings)


def second_delivery(ledgers: FakeLedgers) -> int:
    return [n for n, e in enumerate(ledgers.instances["broker"].plain) if e.kind == "delivery" and n > AT][1]


def reorder(ledgers: FakeLedgers, reader: FakeReader) -> None:
    entries = reader.entries["broker"]
    entries[AT], entries[AT + 1] = entries[AT + 1], entries[AT]


def renumber(ledgers: FakeLedgers, reader: FakeReader) -> None:
    """Drop an entry and give all that follow new indexes, with the epoch that the time has."""
    entries = reader.entries["broker"]
    del entries[AT]
    for index in range(AT, len(entries)):
        leaf = orjson.loads(entries[index].leaf)
        leaf["index"] = index
        reader.change("broker", index, leaf=orjson.dumps(leaf, option=orjson.OPT_SORT_KEYS))


def insert_forged(ledgers: FakeLedgers, reader: FakeReader) -> None:
    reader.entries["broker"].insert(AT, reader.entries["broker"][AT])


def older_epoch(ledgers: FakeLedgers, reader: FakeReader) -> None:
    """An entry that a writer appended who had been replaced."""
    entry = reader.entries["broker"][AT]
    leaf = orjson.loads(entry.leaf)
    leaf["epoch"] += 7
    reader.change("broker", AT, leaf=orjson.dumps(leaf, option=orjson.OPT_SORT_KEYS))


CASES = [
    Case("flip the leaf's brace", flip("leaf", 0), lambda _: AT, "not readable"),
    Case("flip the time", flip_time, lambda it: span(it, "broker", AT), "the tree is not that"),
    Case("flip the openings", flip("openings", 150), lambda _: AT, "is not what the leaf commits to"),
    Case("flip the salt", flip("openings", 30), lambda _: AT, "is not what the leaf commits to"),
    Case("openings of another entry", other_openings, second_delivery, "is not what the leaf commits to"),
    Case("drop", lambda _, reader: reader.entries["broker"].pop(AT), lambda _: AT, "stands where entry"),
    Case("drop and renumber", renumber, lambda it: span(it, "broker", AT), "the tree is not that"),
    Case("insert", insert_forged, lambda _: AT + 1, "stands where entry"),
    Case("reorder", reorder, lambda _: AT, "stands where entry"),
    Case("swap between instances", swap_instances, lambda _: AT, "of instance second stands here"),
    Case(
        "forge a whole entry",
        lambda _, reader: reader.entries["broker"].__setitem__(AT, forged(reader.entries["broker"][AT])),
        lambda it: span(it, "broker", AT),
        "the tree is not that",
    ),
    Case("forge a claim", older_epoch, lambda _: AT + 1, "follows one of epoch"),
    Case(
        "truncate",
        lambda _, reader: reader.entries["broker"].__delitem__(slice(-5, None)),
        lambda it: len(it.instances["broker"].entries) - 5,
        "entries are missing",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_it_is_found_with_its_place(ledgers: FakeLedgers, case: Case) -> None:
    reader = ledgers.reader()
    case.change(ledgers, reader)
    found = await verify(reader, trust(ledgers))
    expected = case.index(ledgers)
    places = expected if isinstance(expected, range) else range(expected, expected + 1)
    assert found.level is Level.FAULTY
    assert any(
        case.what in fault.what and fault.instance == "broker" and fault.index in places
        for fault in faults(found)
    )
    first = found.first_fault
    assert first is not None and first.instance == "broker" and first.index in {*places, AT, AT + 1}
    assert first.line().startswith(f"broker entry {first.index}: ")
    assert "\n" not in first.line()


async def test_an_instance_that_is_left_out_is_found_by_its_name_or_its_checkpoint() -> None:
    """Nothing in the others tells of one that was idle."""
    ledgers = FakeLedgers(seed=4, instances=("broker", "second"))
    ledgers.publish(ledgers.instances["broker"], "indicators", 2)
    ledgers.finish()
    reader = ledgers.reader()
    del reader.entries["second"], reader.stored["second"]
    alone = trust(ledgers)
    mine = replace(alone, after=alone.after[:1])
    assert (await verify(reader, mine)).level is Level.VERIFIED
    for told in (alone, replace(mine, instances=("broker", "second"))):
        found = await verify(reader, told)
        (fault,) = faults(found)
        assert (found.level, fault.instance, fault.index) == (Level.FAULTY, "second", None)
        assert "does not have it at all" in fault.what
    assert (
        await verify(ledgers.reader(), replace(alone, instances=("broker", "second")))
    ).level is Level.VERIFIED


async def test_it_is_found_without_any_trust_as_well(ledgers: FakeLedgers) -> None:
    """Whoever did not sign the checkpoints anew is found out by the ledger alone."""
    for case in CASES:
        reader = ledgers.reader()
        case.change(ledgers, reader)
        assert (await verify(reader, Trust())).level is Level.FAULTY, case.name


async def test_the_beginning_cannot_go_silently(ledgers: FakeLedgers) -> None:
    reader = ledgers.reader()
    del reader.entries["broker"][:1]
    found = await verify(reader, Trust())
    assert any((f.instance, f.index) == ("broker", 1) and "gone" in f.what for f in found.findings)


class TestCheckpoints:
    async def replaced(
        self, ledgers: FakeLedgers, number: int, change: Callable[[StoredCheckpoint], StoredCheckpoint]
    ) -> list[Finding]:
        reader = ledgers.reader()
        stored = reader.stored["broker"]
        stored[number] = change(stored[number])
        return faults(await verify(reader, trust(ledgers)))

    async def test_another_root(self, ledgers: FakeLedgers) -> None:
        def change(stored: StoredCheckpoint) -> StoredCheckpoint:
            note = SignedNote.parse(stored.note)
            other = replace(Checkpoint.parse(note.text), root=bytes(32))
            return StoredCheckpoint(SignedNote(other.text(), note.signatures).encode(), stored.frontier)

        found = await self.replaced(ledgers, 4, change)
        assert any("the tree is not that" in fault.what for fault in found)
        assert any("does not verify" in fault.what for fault in found)

    async def test_signed_by_somebody_else(self, ledgers: FakeLedgers) -> None:
        stranger = seed_of(FakeLedgers(seed=77).signer)

        def change(stored: StoredCheckpoint) -> StoredCheckpoint:
            checkpoint = Checkpoint.parse(SignedNote.parse(stored.note).text)
            note = sign_checkpoint(checkpoint, [Signer(checkpoint.origin, stranger)])
            return StoredCheckpoint(note, stored.frontier)

        newest = len(ledgers.instances["broker"].checkpoints) - 1
        (fault,) = await self.replaced(ledgers, newest, change)
        assert "signed by a key that you trust" in fault.what
        assert fault.index == ledgers.instances["broker"].tree.size - 1

    async def test_a_signature_cut_off(self, ledgers: FakeLedgers) -> None:
        found = await self.replaced(ledgers, 4, lambda stored: replace(stored, note=stored.note[:-20]))
        assert any("checkpoint 4 cannot be read" in fault.what for fault in found)

    async def test_another_frontier(self, ledgers: FakeLedgers) -> None:
        (fault,) = await self.replaced(
            ledgers, 4, lambda stored: replace(stored, frontier=(bytes(32), *stored.frontier[1:]))
        )
        assert "frontier" in fault.what

    async def test_of_the_other_instance(self, ledgers: FakeLedgers) -> None:
        found = await self.replaced(ledgers, 4, lambda _: ledgers.instances["second"].checkpoints[4])
        assert any("of the origin test-exchange/second" in fault.what for fault in found)

    async def test_signed_with_a_key_that_was_rotated_away(self) -> None:
        """Who stole an old key signs nothing with it that counts."""
        ledgers = FakeLedgers(seed=5)
        broker = ledgers.instances["broker"]
        old = broker.signer
        for _ in range(3):
            ledgers.publish(broker, "indicators", 2)
        ledgers.checkpoint(broker)
        ledgers.rotate(broker)
        ledgers.publish(broker, "indicators", 2)
        ledgers.checkpoint(broker)
        assert not faults(await verify(ledgers.reader(), Trust((old.verifier_key,))))
        ledgers.publish(broker, "indicators", 2)
        ledgers.checkpoint(broker, old)
        for known in ((), (old.verifier_key,), (old.verifier_key, broker.signer.verifier_key)):
            (fault,) = faults(await verify(ledgers.reader(), Trust(known)))
            assert "rotated away" in fault.what
            assert fault.index == broker.tree.size - 1

    async def test_a_key_that_no_trusted_key_handed_over_to(self) -> None:
        ledgers = FakeLedgers(seed=6)
        broker = ledgers.instances["broker"]
        old = broker.signer
        ledgers.checkpoint(broker)
        broker.signer = ledgers._new_signer()
        ledgers.restart(broker)
        ledgers.checkpoint(broker)
        found = faults(await verify(ledgers.reader(), Trust((old.verifier_key,))))
        assert ["changed without a key_rotated" in fault.what for fault in found] == [False, True]
        assert "signed by a key that you trust" in found[0].what
        assert "changed without" in faults(await verify(ledgers.reader(), Trust()))[0].what


class TestRollback:
    async def test_to_an_earlier_state_that_was_true(self, ledgers: FakeLedgers) -> None:
        """Entries and checkpoints are those of an hour ago, all of them sound: only a witness knows better."""
        reader = ledgers.reader()
        stored = reader.stored["broker"]
        del stored[-3:]
        size = Checkpoint.parse(SignedNote.parse(stored[-1].note).text).size
        del reader.entries["broker"][size:]
        assert not faults(await verify(reader, Trust(tuple(ledgers.keys))))
        (fault,) = faults(await verify(reader, trust(ledgers)))
        assert "rolled back" in fault.what
        assert (fault.instance, fault.index) == ("broker", size)
        assert (await verify(reader, trust(ledgers, back=4))).level is Level.VERIFIED

    async def test_to_nothing(self, ledgers: FakeLedgers) -> None:
        reader = ledgers.reader()
        del reader.entries["broker"], reader.stored["broker"]
        found = await verify(reader, trust(ledgers))
        assert any("does not have it at all" in f.what and f.instance == "broker" for f in faults(found))

    async def test_an_instance_without_entries(self, ledgers: FakeLedgers) -> None:
        reader = ledgers.reader()
        reader.entries["broker"].clear()
        reader.stored["broker"].clear()
        fault = (await verify(reader, trust(ledgers))).first_fault
        assert fault is not None
        assert (fault.instance, fault.index) == ("broker", 0)
        assert "rolled back" in fault.what

    async def test_written_anew_with_the_exchanges_own_key(self, ledgers: FakeLedgers) -> None:
        """Who holds the key can sign any tree; the one that a witness saw is another."""
        reader = ledgers.reader()
        entries = reader.entries["broker"]
        entries[AT] = forged(entries[AT])
        tree, anew = CompactTree(), []
        by_size = {
            Checkpoint.parse(SignedNote.parse(each.note).text).size: each for each in reader.stored["broker"]
        }
        for entry in entries:
            tree.append(leaf_hash(entry.leaf))
            if tree.size in by_size:
                note = SignedNote.parse(by_size[tree.size].note)
                hashes = {signature.key_hash for signature in note.signatures}
                origin = Checkpoint.parse(note.text).origin
                named = [key for key in ledgers.keys if key.named(origin).key_hash in hashes]
                signers = [Signer(origin, seed_of_key(key.public_key)) for key in named]
                signed = sign_checkpoint(Checkpoint(origin, tree.size, tree.root()), signers)
                anew.append(StoredCheckpoint(signed, tree.frontier))
        reader.stored["broker"] = anew
        assert not faults(await verify(reader, Trust(tuple(ledgers.keys))))
        (fault,) = faults(await verify(reader, trust(ledgers)))
        assert "written anew" in fault.what
        assert fault.index == ledgers.instances["broker"].tree.size - 1

    async def test_a_witnessed_checkpoint_that_somebody_made_up(self, ledgers: FakeLedgers) -> None:
        note = ledgers.instances["broker"].checkpoints[-1].note
        made_up = sign_checkpoint(
            Checkpoint.parse(SignedNote.parse(note).text), [Signer("test-exchange/broker", b"\x09" * 32)]
        )
        (fault,) = faults(await verify(ledgers.reader(), Trust(tuple(ledgers.keys), (made_up,))))
        assert "no key that counts has signed it" in fault.what
        (fault,) = faults(await verify(ledgers.reader(), Trust(tuple(ledgers.keys), (b"nothing",))))
        assert "cannot be used" in fault.what


def seed_of_key(public_key: bytes) -> bytes:
    from tests.fakes import ledgers

    return ledgers._SEEDS[public_key]


@pytest.mark.parametrize("seed", range(6))
async def test_any_single_bit(ledgers: FakeLedgers, seed: int) -> None:
    """Anywhere in any entry: found in that entry, or in the stretch of the checkpoint that covers it."""
    chance = random.Random(seed)
    for _ in range(12):
        reader = ledgers.reader()
        name = chance.choice(["broker", "second"])
        index = chance.randrange(len(reader.entries[name]))
        part = chance.choice(["leaf", "openings"])
        content = bytearray(getattr(reader.entries[name][index], part))
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        reader.change(name, index, **{part: bytes(content)})
        fault = (await verify(reader, trust(ledgers))).first_fault
        assert fault is not None, (name, index, part)
        assert fault.instance == name
        assert fault.index is not None and fault.index in {index, *span(ledgers, name, index)}
