"""What a cosigning witness answers: it cosigns one history, durably kept first, and refuses every other with evidence."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from broker.core.checkpoint.checkpoint import Checkpoint
from broker.core.checkpoint.cosignature import Cosigner, cosignature_time_s
from broker.core.checkpoint.note import NoteSignature, SignedNote, Signer
from broker.core.merkle.proofs import ProofInvalid
from broker.core.witness.cosigning import CosigningWitness, OriginUnknown, SignatureUnknown, TrustedLog
from broker.core.witness.judge import RootConflict
from broker.core.witness.request import RequestInvalid, format_request
from broker.errors import StorageUnavailable
from broker.ports.witness import WitnessConflict
from broker.ports.witness_store import Misfit
from tests.fakes.clock import TurnedClock
from tests.fakes.witnessed_log import WitnessedLog

COSIGNER = Cosigner("witness.example/w1", bytes(32))


class MemoryStore:
    """A WitnessStore whose disk may fail, and which notices when two threads use one origin at once."""

    def __init__(self) -> None:
        self.notes: dict[str, bytes] = {}
        self.kept: list[bytes] = []
        self.misfits: list[Misfit] = []
        self.broken = False
        self._using = threading.Lock()

    def held(self, origin: str) -> bytes | None:
        return self.notes.get(origin)

    def keep(self, origin: str, note: bytes) -> None:
        assert self._using.acquire(blocking=False), "two threads at once"
        try:
            if self.broken:
                raise StorageUnavailable("the disk is full")
            self.notes[origin] = note
            self.kept.append(note)
        finally:
            self._using.release()

    def record(self, misfit: Misfit) -> bool:
        if self.broken:
            raise StorageUnavailable("the disk is full")
        self.misfits.append(misfit)
        return True


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def log() -> WitnessedLog:
    return WitnessedLog().grow(20)


@pytest.fixture
def witness(store: MemoryStore, log: WitnessedLog) -> CosigningWitness:
    return CosigningWitness(COSIGNER, [TrustedLog(log.origin, (log.key,))], store, TurnedClock())


def held_size(store: MemoryStore, log: WitnessedLog) -> int:
    return Checkpoint.parse(SignedNote.parse(store.notes[log.origin]).text).size


def cosigned_at(note: bytes, line: bytes) -> int | None:
    signature = NoteSignature.parse(line.decode().removesuffix("\n"))
    return cosignature_time_s(SignedNote(SignedNote.parse(note).text, (signature,)), COSIGNER.verifier_key)


def test_a_history_that_grows_is_cosigned_and_kept(
    witness: CosigningWitness, store: MemoryStore, log: WitnessedLog
) -> None:
    old = 0
    for new in (0, 0, 1, 2, 2, 7, 8, 20):
        line = witness.add(log.request(old, new))
        assert line.endswith(b"\n")
        assert cosigned_at(log.checkpoint(new), line) == 1_800_000_000
        assert held_size(store, log) == new
        old = new
    assert not store.misfits


def test_the_first_contact_may_be_at_any_size(
    witness: CosigningWitness, store: MemoryStore, log: WitnessedLog
) -> None:
    witness.add(log.request(0, 13))
    assert store.notes == {log.origin: log.checkpoint(13)}


def test_a_size_that_is_not_the_held_one_is_told_the_held_one(
    witness: CosigningWitness, store: MemoryStore, log: WitnessedLog
) -> None:
    with pytest.raises(WitnessConflict) as conflict:
        witness.add(log.request(5, 8))
    assert conflict.value.held_size == 0
    witness.add(log.request(0, 8))
    for old, new in ((0, 8), (0, 20), (5, 8), (5, 20), (9, 20), (0, 3), (3, 3), (20, 20)):
        with pytest.raises(WitnessConflict) as conflict:
            witness.add(log.request(old, new))
        assert conflict.value.held_size == 8
    assert held_size(store, log) == 8
    assert not store.misfits


def test_an_older_checkpoint_that_is_sent_again_changes_nothing(
    witness: CosigningWitness, store: MemoryStore, log: WitnessedLog
) -> None:
    first = log.request(0, 5)
    witness.add(first)
    witness.add(log.request(5, 12))
    with pytest.raises(WitnessConflict) as conflict:
        witness.add(first)
    assert (conflict.value.held_size, held_size(store, log)) == (12, 12)
    with pytest.raises(RequestInvalid):  # an old size above the checkpoint's
        witness.add(format_request(12, (), log.checkpoint(5)))


@pytest.mark.parametrize("old", [0, 5, 12])
def test_two_roots_of_one_size_are_a_fork_and_are_kept_as_evidence(
    witness: CosigningWitness, store: MemoryStore, log: WitnessedLog, old: int
) -> None:
    other = log.fork(9).grow(3, "other")
    witness.add(log.request(0, 12))
    with pytest.raises(RootConflict) as conflict:
        witness.add(format_request(old, (), other.checkpoint()))
    assert conflict.value.size == 12
    (misfit,) = store.misfits
    assert (misfit.kind, misfit.held, misfit.offered) == ("fork", log.checkpoint(12), other.checkpoint())
    assert store.kept == [log.checkpoint(12)]


def test_another_history_of_a_later_size_is_refused(
    witness: CosigningWitness, store: MemoryStore, log: WitnessedLog
) -> None:
    other = log.fork(9).grow(11, "other")
    witness.add(log.request(0, 12))
    with pytest.raises(ProofInvalid):
        witness.add(other.request(12))
    (misfit,) = store.misfits
    assert (misfit.kind, misfit.offered, misfit.proof) == ("unproven", other.checkpoint(), other.proof(12))
    assert held_size(store, log) == 12


@pytest.mark.parametrize("spoil", ["cut", "longer", "flipped", "reversed", "none"])
def test_a_proof_that_does_not_verify_is_refused(
    witness: CosigningWitness, store: MemoryStore, log: WitnessedLog, spoil: str
) -> None:
    witness.add(log.request(0, 13))
    proof = list(log.proof(13))
    spoiled = {
        "cut": proof[:-1],
        "longer": [*proof, bytes(32)],
        "flipped": [bytes([proof[0][0] ^ 1]) + proof[0][1:], *proof[1:]],
        "reversed": proof[::-1],
        "none": [],
    }[spoil]
    with pytest.raises(ProofInvalid):
        witness.add(format_request(13, tuple(spoiled), log.checkpoint()))
    assert held_size(store, log) == 13


@pytest.mark.parametrize("size", [0, 13])
def test_a_proof_from_nothing_is_empty(
    witness: CosigningWitness, store: MemoryStore, log: WitnessedLog, size: int
) -> None:
    with pytest.raises(ProofInvalid):
        witness.add(format_request(0, (bytes(32),), log.checkpoint(size)))
    assert not store.notes
    assert not store.misfits, "there is nothing yet that it does not fit"


def test_an_unknown_origin_is_told_before_anything_else(
    witness: CosigningWitness, store: MemoryStore
) -> None:
    stranger = WitnessedLog("exchange-2/broker").grow(3)
    with pytest.raises(OriginUnknown):
        witness.add(stranger.request(2))
    assert not store.notes


def test_a_checkpoint_that_no_known_key_signed_is_refused(
    witness: CosigningWitness, store: MemoryStore, log: WitnessedLog
) -> None:
    impostor = WitnessedLog(log.origin, seed=bytes(32)).grow(20)
    with pytest.raises(SignatureUnknown):
        witness.add(impostor.request(0))
    # A true signature over another text.
    signature = SignedNote.parse(log.checkpoint(19)).signatures
    forged = SignedNote(SignedNote.parse(log.checkpoint(20)).text, signature).encode()
    with pytest.raises(SignatureUnknown):
        witness.add(format_request(0, (), forged))
    # The right key under another log's name: a checkpoint of that log is none of this one.
    renamed = Signer("exchange-2/broker", bytes(range(32))).sign(SignedNote.parse(log.checkpoint()).text)
    with pytest.raises(SignatureUnknown):
        witness.add(
            format_request(0, (), SignedNote(SignedNote.parse(log.checkpoint()).text, (renamed,)).encode())
        )
    assert not store.notes


def test_signatures_of_unknown_keys_are_ignored_and_not_kept(
    witness: CosigningWitness, store: MemoryStore, log: WitnessedLog
) -> None:
    note = SignedNote.parse(log.checkpoint())
    strange = tuple(NoteSignature(f"stranger-{number}", bytes(4), bytes(600)) for number in range(50))
    witness.add(format_request(0, (), SignedNote(note.text, (*strange, *note.signatures)).encode()))
    assert store.notes == {log.origin: log.checkpoint()}


def test_each_of_a_logs_keys_may_sign(store: MemoryStore, log: WitnessedLog) -> None:
    rotated = WitnessedLog(log.origin, seed=bytes(32)).grow(30)
    keys = (log.key, rotated.key.named("exchange-1"))  # names of keys do not count
    witness = CosigningWitness(COSIGNER, [TrustedLog(log.origin, keys)], store, TurnedClock())
    witness.add(log.request(0, 20))
    witness.add(rotated.request(20, 30))
    assert held_size(store, log) == 30


def test_nothing_is_cosigned_that_could_not_be_kept(
    witness: CosigningWitness, store: MemoryStore, log: WitnessedLog
) -> None:
    witness.add(log.request(0, 5))
    store.broken = True
    with pytest.raises(StorageUnavailable):
        witness.add(log.request(5, 9))
    with pytest.raises(RootConflict):  # refused all the same when the evidence cannot be kept
        witness.add(log.fork(2).grow(3, "other").request(0, 5))
    store.broken = False
    assert cosigned_at(log.checkpoint(9), witness.add(log.request(5, 9))) is not None


def test_logs_are_kept_apart(store: MemoryStore, log: WitnessedLog) -> None:
    second = WitnessedLog("exchange-1/broker-2").grow(4, "second")
    logs = [TrustedLog(each.origin, (each.key,)) for each in (log, second)]
    witness = CosigningWitness(COSIGNER, logs, store, TurnedClock())
    witness.add(log.request(0, 20))
    witness.add(second.request(0, 4))
    assert store.notes == {log.origin: log.checkpoint(), second.origin: second.checkpoint()}


def test_of_requests_at_the_same_time_sizes_never_go_back(
    witness: CosigningWitness, store: MemoryStore, log: WitnessedLog
) -> None:
    """Two histories race from size 0 on; one of them wins, once for each size, and every cosignature is of it."""
    other = log.fork(0).grow(20, "other")
    sizes = [(old, new) for old in range(20) for new in range(old + 1, 21)] * 2
    requests = [(each, each.request(old, new), new) for each in (log, other) for old, new in sizes]
    random.Random(4).shuffle(requests)

    def ask(asked: tuple[WitnessedLog, bytes, int]) -> tuple[WitnessedLog, int] | None:
        try:
            witness.add(asked[1])
        except (WitnessConflict, RootConflict, ProofInvalid):
            return None
        return asked[0], asked[2]

    with ThreadPoolExecutor(8) as threads:
        cosigned = [answer for answer in threads.map(ask, requests) if answer is not None]
    sizes_kept = [Checkpoint.parse(SignedNote.parse(note).text).size for note in store.kept]
    assert sizes_kept == sorted(set(sizes_kept))
    assert len({id(winner) for winner, _ in cosigned}) == 1
    winner = cosigned[0][0]
    assert store.kept == [winner.checkpoint(size) for size in sizes_kept]
    assert {size for _, size in cosigned} == set(sizes_kept)


@pytest.mark.parametrize("damage", ["cut", "flipped", "other log", "other key"])
def test_a_damaged_state_is_found_at_start(store: MemoryStore, log: WitnessedLog, damage: str) -> None:
    trusted = [TrustedLog(log.origin, (log.key,))]
    note = log.checkpoint(8)
    store.notes[log.origin] = {
        "cut": note[:-10],
        "flipped": note.replace(b"\n8\n", b"\n9\n"),
        "other log": WitnessedLog("exchange-2/broker").grow(8).checkpoint(),
        "other key": WitnessedLog(log.origin, seed=bytes(32)).grow(8).checkpoint(),
    }[damage]
    with pytest.raises(StorageUnavailable, match="exchange-1/broker"):
        CosigningWitness(COSIGNER, trusted, store, TurnedClock()).check_held()
    store.notes[log.origin] = note
    CosigningWitness(COSIGNER, trusted, store, TurnedClock()).check_held()


def test_what_is_held_is_stated_with_a_cosignature_of_that_moment(
    witness: CosigningWitness, store: MemoryStore, log: WitnessedLog
) -> None:
    assert witness.statement(log.origin) is None
    with pytest.raises(OriginUnknown):
        witness.statement("exchange-2/broker")
    witness.add(log.request(0, 12))
    note = SignedNote.parse(witness.statement(log.origin) or b"")
    assert note.text == SignedNote.parse(log.checkpoint(12)).text
    assert note.is_signed_by(log.key)
    assert cosignature_time_s(note, COSIGNER.verifier_key) == 1_800_000_000


def test_a_statement_is_not_of_a_moment_before_it_was_true(store: MemoryStore, log: WitnessedLog) -> None:
    """A larger checkpoint comes in between reading what is held and reading the clock."""

    class Overtaken(TurnedClock):
        def now_ms(self) -> int:
            store.notes[log.origin] = log.checkpoint(20)
            return super().now_ms()

    store.notes[log.origin] = log.checkpoint(12)
    witness = CosigningWitness(COSIGNER, [TrustedLog(log.origin, (log.key,))], store, Overtaken())
    assert Checkpoint.parse(SignedNote.parse(witness.statement(log.origin) or b"").text).size == 20
