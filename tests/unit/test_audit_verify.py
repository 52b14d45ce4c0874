"""Sound ledgers verify, whatever happened in them; how much is trusted depends on what the auditor brings along."""

from __future__ import annotations

from dataclasses import replace

import pytest

from broker.core.audit.trust import Trust, read_keys
from broker.core.audit.verify import Level, Verification, verify
from broker.core.checkpoint.cosignature import Cosigner
from broker.core.checkpoint.note import NoteInvalid, SignedNote
from broker.core.merkle.tree import CompactTree
from broker.model.audit import Finding, Progress, Severity
from broker.model.ledger import StoredCheckpoint
from tests.fakes.ledgers import FakeLedgers, FakeReader, make_ledgers


def newest(ledgers: FakeLedgers, back: int = 1) -> tuple[bytes, ...]:
    """What a witness holds of each instance, some checkpoints ago."""
    return tuple(instance.checkpoints[-back].note for instance in ledgers.instances.values())


def faults(found: Verification) -> list[Finding]:
    return [finding for finding in found.findings if finding.severity is Severity.FAULT]


@pytest.fixture(scope="module")
def ledgers() -> FakeLedgers:
    return make_ledgers(seed=21, rounds=120)


@pytest.mark.parametrize("seed", range(8))
async def test_whatever_happens_a_sound_ledger_verifies(seed: int) -> None:
    ledgers = make_ledgers(seed, rounds=150)
    found = await verify(ledgers.reader(), Trust((ledgers.keys[0],), newest(ledgers, back=4)))
    assert (found.level, found.findings) == (Level.VERIFIED, ())
    assert found.entries == sum(len(each.entries) for each in ledgers.instances.values())
    for result in found.instances:
        instance = ledgers.instances[result.instance]
        assert (result.begin, result.end) == (0, len(instance.entries))
        assert result.root == instance.tree.root().hex()
        assert result.signed == instance.tree.size
        assert result.key == instance.signer.verifier_key.text()
        assert result.witnessed is not None and 0 < result.witnessed < result.end


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(100, 160))
async def test_whatever_happens_in_a_long_time_a_sound_ledger_verifies(seed: int) -> None:
    ledgers = make_ledgers(seed, rounds=2_000, instances=("a", "b", "c"))
    found = await verify(ledgers.reader(), Trust((ledgers.keys[0],), newest(ledgers)))
    assert (found.level, found.findings) == (Level.VERIFIED, ())


async def test_other_processes_find_the_same(ledgers: FakeLedgers) -> None:
    trust = Trust(tuple(ledgers.keys), newest(ledgers))
    alone = await verify(ledgers.reader(), trust)
    reader = ledgers.reader()
    reader.change("second", 40, openings=reader.entries["second"][41].openings)
    shared = await verify(ledgers.reader(), trust, workers=2)
    assert shared == alone
    assert faults(await verify(reader, trust, workers=2)) == faults(await verify(reader, trust))


class TestWhatTheAuditorBrings:
    async def test_nothing(self, ledgers: FakeLedgers) -> None:
        found = await verify(ledgers.reader(), Trust())
        assert (found.level, found.findings) == (Level.CONSISTENT, ())
        assert found.summary().startswith("internally consistent only: ")
        assert {result.key for result in found.instances} == {""}

    async def test_a_key_only(self, ledgers: FakeLedgers) -> None:
        found = await verify(ledgers.reader(), Trust((ledgers.keys[0],)))
        assert (found.level, found.findings) == (Level.CONSISTENT, ())

    async def test_a_checkpoint_only(self, ledgers: FakeLedgers) -> None:
        found = await verify(ledgers.reader(), Trust(after=newest(ledgers)))
        assert (found.level, found.findings) == (Level.CONSISTENT, ())
        assert all(result.witnessed == result.end for result in found.instances)

    async def test_a_checkpoint_of_one_instance_says_nothing_of_the_other(self, ledgers: FakeLedgers) -> None:
        found = await verify(ledgers.reader(), Trust(tuple(ledgers.keys), newest(ledgers)[:1]))
        assert found.level is Level.CONSISTENT
        assert [result.level for result in found.instances] == [Level.VERIFIED, Level.CONSISTENT]

    async def test_a_key_that_is_not_the_ledgers(self, ledgers: FakeLedgers) -> None:
        stranger = FakeLedgers(seed=99).keys[0]
        found = await verify(ledgers.reader(), Trust((stranger,), newest(ledgers)))
        assert found.level is Level.FAULTY
        assert {fault.instance for fault in faults(found)} == {"broker", "second"}

    async def test_the_newest_key_only_vouches_for_all_before(self, ledgers: FakeLedgers) -> None:
        keys = tuple(instance.signer.verifier_key for instance in ledgers.instances.values())
        found = await verify(ledgers.reader(), Trust(keys, newest(ledgers)))
        assert (found.level, faults(found)) == (Level.VERIFIED, [])

    async def test_a_witness_whose_key_is_known_must_have_cosigned(self, ledgers: FakeLedgers) -> None:
        mine, other = Cosigner("witness.example", bytes(32)), Cosigner("other.example", b"\x01" * 32)
        notes = []
        for note in map(SignedNote.parse, newest(ledgers)):
            cosigned = (*note.signatures, mine.cosign(note.text, 1_767_225_600))
            notes.append(SignedNote(note.text, cosigned).encode())
        keys = tuple(ledgers.keys)
        good = await verify(ledgers.reader(), Trust(keys, tuple(notes), (mine.verifier_key,)))
        assert (good.level, good.findings) == (Level.VERIFIED, ())
        for trust in (
            Trust(keys, tuple(notes), (other.verifier_key,)),
            Trust(keys, newest(ledgers), (mine.verifier_key,)),
        ):
            assert (await verify(ledgers.reader(), trust)).level is Level.FAULTY

    def test_a_file_of_keys(self, ledgers: FakeLedgers) -> None:
        text = "".join(f"{key.text()}\n" for key in ledgers.keys)
        assert read_keys(text) == tuple(ledgers.keys)
        assert read_keys(text.replace("\n", "\r\n")) == tuple(ledgers.keys)
        for wrong in ("", "\n", text + "nothing\n", text[:-3]):
            with pytest.raises(NoteInvalid):
                read_keys(wrong)


class TestPartsOfALedger:
    async def test_entries_that_no_checkpoint_covers_yet(self, ledgers: FakeLedgers) -> None:
        reader = ledgers.reader()
        for stored in reader.stored.values():
            del stored[-2:]
        found = await verify(reader, Trust((ledgers.keys[0],), newest(ledgers, back=3)))
        assert (found.level, faults(found)) == (Level.VERIFIED, [])
        assert all("no signed checkpoint" in finding.what for finding in found.findings)
        assert {finding.instance for finding in found.findings} == {"broker", "second"}

    async def test_erased_openings_leave_the_rest_verifiable(self, ledgers: FakeLedgers) -> None:
        reader = ledgers.reader()
        for index in range(30, 60):
            reader.change("broker", index, openings=b"")
        found = await verify(reader, Trust(tuple(ledgers.keys), newest(ledgers)))
        assert (found.level, faults(found)) == (Level.VERIFIED, [])
        (erased,) = [finding for finding in found.findings if "no openings" in finding.what]
        assert (erased.instance, erased.index) == ("broker", 30)
        assert erased.what.startswith("30 entries")

    async def test_all_openings_erased(self, ledgers: FakeLedgers) -> None:
        reader = ledgers.reader()
        for entries in reader.entries.values():
            entries[:] = [replace(entry, openings=b"") for entry in entries]
        found = await verify(reader, Trust(tuple(ledgers.keys), newest(ledgers)))
        assert (found.level, faults(found)) == (Level.VERIFIED, [])

    async def test_retention_took_the_beginning(self, ledgers: FakeLedgers) -> None:
        reader = ledgers.reader()
        begin = 100
        del reader.entries["broker"][:begin]
        reader.first["broker"] = begin
        found = await verify(reader, Trust(tuple(ledgers.keys), newest(ledgers)))
        assert (found.level, faults(found)) == (Level.VERIFIED, [])
        assert (found.instances[0].begin, found.instances[0].end) == (
            begin,
            len(ledgers.instances["broker"].entries),
        )
        assert any("gone" in f.what and (f.instance, f.index) == ("broker", begin) for f in found.findings)

    async def test_retention_leaves_what_a_checkpoint_leads_on_from(self, ledgers: FakeLedgers) -> None:
        reader = ledgers.reader()
        del reader.entries["broker"][:100]
        reader.first["broker"] = 100
        reader.stored["broker"] = [StoredCheckpoint(each.note, ()) for each in reader.stored["broker"]]
        found = await verify(reader, Trust(tuple(ledgers.keys), newest(ledgers)))
        assert found.level is Level.FAULTY

    async def test_an_empty_ledger(self) -> None:
        found = await verify(FakeReader({}, {}), Trust())
        assert (found.level, found.instances, found.entries) == (Level.CONSISTENT, (), 0)

    async def test_checkpoints_stored_out_of_order_or_twice_are_sound(self, ledgers: FakeLedgers) -> None:
        reader = ledgers.reader()
        stored = reader.stored["broker"]
        stored[3], stored[5] = stored[5], stored[3]
        stored.insert(9, stored[8])
        found = await verify(reader, Trust(tuple(ledgers.keys), newest(ledgers)))
        assert (found.level, found.findings) == (Level.VERIFIED, ())

    async def test_a_record_that_was_stored_and_never_accounted_for_is_remarked(self) -> None:
        ledgers = FakeLedgers(seed=3, withhold=False)
        broker = ledgers.instances["broker"]
        ledgers.publish(broker, "crash-reports", 8)
        lost = ledgers._store("crash-reports", "highway-patrol")
        ledgers.publish(broker, "crash-reports", 8)
        from tests.fakes.ledgers import PEOPLE

        stream = ledgers.open(broker, PEOPLE[0], "crash-reports")
        while ledgers.deliver(broker, stream):
            pass
        ledgers.finish()
        found = await verify(ledgers.reader(), Trust())
        assert (found.level, len(found.findings)) == (Level.CONSISTENT, 1)
        assert f"crash-reports/{lost.partition}/{lost.offset} " in found.findings[0].what
        assert found.findings[0].severity is Severity.REMARK


async def test_progress_counts_entries(ledgers: FakeLedgers) -> None:
    told: list[Progress] = []
    found = await verify(ledgers.reader(), Trust(), progress=told.append)
    assert [step.done for step in told] == sorted(step.done for step in told)
    assert told[-1].done == found.entries


def test_a_frontier_is_that_of_its_tree(ledgers: FakeLedgers) -> None:
    """What retention relies on: a checkpoint's frontier leads to its root."""
    for instance in ledgers.instances.values():
        assert (
            CompactTree(instance.tree.size, instance.checkpoints[-1].frontier).root() == instance.tree.root()
        )
