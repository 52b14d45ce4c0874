"""Checkpoints, cosignatures and proofs made here hold for public implementations; damaged ones hold for neither."""

from __future__ import annotations

import base64
import binascii
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import pytest

from broker.core.checkpoint.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from broker.core.checkpoint.cosignature import Cosigner, cosignature_time_s
from broker.core.checkpoint.note import NoteInvalid, SignedNote, Signer, VerifierKey
from broker.core.ledger.leaf import encode
from broker.core.merkle.hashing import EMPTY_ROOT, leaf_hash, root_of
from broker.core.merkle.proofs import (
    ProofInvalid,
    consistency_proof,
    consistency_since,
    inclusion_proof,
    subtrees_of,
    verify_consistency,
    verify_inclusion,
)
from broker.core.merkle.tree import CompactTree
from broker.model.ledger import LedgerEntry
from tests.services.ledgercheck import (
    LEDGERCHECK,
    CheckValue,
    LedgercheckUnavailable,
    Verdict,
    run_ledgercheck,
)

ORIGIN = "state-exchange/broker"
SIGNER = Signer(ORIGIN, b"\x11" * 32)
WITNESS = Cosigner("witness.example/w1", b"\x12" * 32)
TIME_S = 1_760_000_000

MOST_LEAVES = 20
LEAVES = [
    encode(LedgerEntry("publish", n, {"rules": {"revision": "r"}}), "broker", 1, n, bytes([n]) * 32).leaf
    for n in range(MOST_LEAVES)
]
HASHES = [leaf_hash(leaf) for leaf in LEAVES]
SUBTREE = subtrees_of(HASHES)
ROOTS = [root_of(HASHES[:size]) for size in range(MOST_LEAVES + 1)]

Check = dict[str, CheckValue]


def answers(checks: list[Check]) -> list[Verdict]:
    try:
        return run_ledgercheck(checks)
    except LedgercheckUnavailable as error:
        pytest.fail(str(error), pytrace=False)


def holds(verify: Callable[[], object]) -> bool:
    try:
        verify()
    except (NoteInvalid, ProofInvalid):
        return False
    return True


def inclusion(index: int, size: int) -> Check:
    proof = inclusion_proof(index, size, SUBTREE)
    leaf: Check = {"kind": "inclusion", "leaf": LEAVES[index], "index": index}
    return leaf | {"size": size, "root": ROOTS[size], "proof": proof}


def consistency(old_size: int, size: int) -> Check:
    proof = consistency_proof(old_size, size, SUBTREE)
    old: Check = {"kind": "consistency", "old_size": old_size, "old_root": ROOTS[old_size]}
    return old | {"size": size, "root": ROOTS[size], "proof": proof}


def holds_here(check: Mapping[str, object]) -> bool:
    """What this project says of a check."""
    given = {name: value for name, value in check.items() if name != "kind"}
    if check["kind"] == "inclusion":
        leaf = given.pop("leaf")
        assert isinstance(leaf, bytes)
        return holds(lambda: verify_inclusion(leaf_hash(leaf), **given))  # type: ignore[arg-type]
    new = {"new_size": given.pop("size"), "new_root": given.pop("root")}
    return holds(lambda: verify_consistency(**given, **new))  # type: ignore[arg-type]


def damaged(check: Check) -> Iterator[Check]:
    """The check with each of its members changed in several ways."""
    for name, value in check.items():
        if name == "kind":
            continue
        if isinstance(value, bytes):
            changed: list[CheckValue] = [
                value[:-1],
                value + b"\0",
                bytes([value[0] ^ 1]) + value[1:],
                EMPTY_ROOT,
            ]
        elif isinstance(value, int):
            changed = [n for n in (value - 1, value + 1, value ^ 2, value * 2, value // 2) if n >= 0]
        else:
            assert isinstance(value, list)
            changed = [
                value[1:],
                value[:-1],
                value[::-1],
                [*value, EMPTY_ROOT],
                [EMPTY_ROOT, *value],
                [*value, b""],
            ]
            for n, node in enumerate(value):
                changed.append([*value[:n], bytes([node[0] ^ 1]) + node[1:], *value[n + 1 :]])
        yield from ({**check, name: other} for other in changed if other != value)


def test_every_proof_holds_there() -> None:
    checks = [inclusion(index, size) for size in range(MOST_LEAVES + 1) for index in range(size)]
    checks += [consistency(old, size) for size in range(MOST_LEAVES + 1) for old in range(size + 1)]
    assert all(holds_here(check) for check in checks)
    assert [verdict for verdict in answers(checks) if not verdict.ok] == []


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 13, 16, 20])
def test_both_say_the_same_of_damaged_inclusion_proofs(size: int) -> None:
    checks = [other for index in range(size) for other in damaged(inclusion(index, size))]
    here = [holds_here(check) for check in checks]
    assert [verdict.ok for verdict in answers(checks)] == here
    assert here.count(False) > len(here) * 0.8


@pytest.mark.parametrize("size", [2, 3, 5, 8, 13, 16, 20])
def test_both_say_the_same_of_damaged_consistency_proofs(size: int) -> None:
    checks = [other for old in range(1, size) for other in damaged(consistency(old, size))]
    # Of an empty old tree only this project asks for its root.
    checks = [check for check in checks if check["old_size"]]
    here = [holds_here(check) for check in checks]
    assert [verdict.ok for verdict in answers(checks)] == here
    assert here.count(False) > len(here) * 0.8


def test_the_proof_from_a_frontier_holds_there() -> None:
    checks: list[Check] = []
    for old_size in range(MOST_LEAVES + 1):
        old = CompactTree()
        old.extend(HASHES[:old_size])
        proof = consistency_since(old, HASHES[old_size:])
        checks.append({**consistency(old_size, MOST_LEAVES), "proof": proof, "old_root": old.root()})
    assert all(verdict.ok for verdict in answers(checks))


def note_check(note: bytes, **other: CheckValue) -> Check:
    return {"kind": "checkpoint", "note": note, "origin": ORIGIN, "vkey": SIGNER.verifier_key.text()} | other


def cosigned(size: int) -> bytes:
    note = SignedNote.parse(sign_checkpoint(Checkpoint(ORIGIN, size, ROOTS[size]), [SIGNER]))
    return replace(note, signatures=(*note.signatures, WITNESS.cosign(note.text, TIME_S))).encode()


def test_an_entry_can_be_followed_from_leaf_to_witness() -> None:
    """As an outsider would: the size and root that the proofs are held against come from the other implementation."""
    witness = {"kind": "cosignature", "witness": WITNESS.verifier_key.text()}
    old, new = answers([note_check(cosigned(7)), note_check(cosigned(19), **witness)])
    assert (old.ok, old.size, old.root) == (True, 7, ROOTS[7])
    assert (new.ok, new.size, new.root, new.time_s) == (True, 19, ROOTS[19], TIME_S)
    grown = consistency(7, 19) | {
        "old_size": old.size,
        "old_root": old.root,
        "size": new.size,
        "root": new.root,
    }
    found = inclusion(4, 19) | {"size": new.size, "root": new.root}
    changed = found | {"leaf": LEAVES[4].replace(b"publish", b"preview")}
    assert [verdict.ok for verdict in answers([grown, found, changed])] == [True, True, False]


def test_any_changed_byte_of_a_checkpoint_is_found_by_both() -> None:
    note = sign_checkpoint(Checkpoint(ORIGIN, 19, ROOTS[19]), [SIGNER])
    notes = [note[:n] + bytes([note[n] ^ 1 << n % 8]) + note[n + 1 :] for n in range(len(note))]
    notes += [note[:n] for n in range(len(note))]
    assert not any(holds(lambda note=note: open_checkpoint(note, [SIGNER.verifier_key])) for note in notes)  # type: ignore[misc]
    assert not any(verdict.ok for verdict in answers([note_check(note) for note in notes]))


def test_any_changed_byte_of_a_cosignature_is_found_by_both() -> None:
    note = cosigned(19)
    begin = note.rindex("— ".encode())
    notes = [note[:n] + bytes([note[n] ^ 1 << n % 8]) + note[n + 1 :] for n in range(begin, len(note))]
    key = WITNESS.verifier_key
    here = [holds(lambda note=note: _cosigned_here(note, key)) for note in notes]  # type: ignore[misc]
    there = answers([note_check(note, kind="cosignature", witness=key.text()) for note in notes])
    assert not any(here)
    assert [verdict.ok for verdict in there] == [_is_same_signature(note, other) for other in notes]


def _is_same_signature(note: bytes, other: bytes) -> bool:
    """Go's base64 does not look at the bits that the last character has too many; they change no byte of a signature."""
    (begin, _, text), (other_begin, _, other_text) = note.rpartition(b" "), other.rpartition(b" ")
    try:
        decoded = base64.b64decode(other_text.removesuffix(b"\n"), validate=True)
    except binascii.Error:
        return False
    return other_begin == begin and other_text.endswith(b"\n") and decoded == base64.b64decode(text)


def _cosigned_here(note: bytes, key: VerifierKey) -> None:
    if cosignature_time_s(open_checkpoint(note, [SIGNER.verifier_key])[1], key) is None:
        raise NoteInvalid("not cosigned")


@pytest.mark.parametrize(
    "other",
    [
        {"vkey": Signer(ORIGIN, b"\x13" * 32).verifier_key.text()},
        {"vkey": Signer("state-exchange/other", b"\x11" * 32).verifier_key.text()},
        {"origin": "state-exchange/other"},
        {"kind": "cosignature", "witness": Cosigner("witness.example/w2", b"\x12" * 32).verifier_key.text()},
        {"kind": "cosignature", "witness": Cosigner("witness.example/w1", b"\x13" * 32).verifier_key.text()},
    ],
)
def test_another_key_or_origin_does_not_do_there(other: Mapping[str, CheckValue]) -> None:
    assert [verdict.ok for verdict in answers([note_check(cosigned(19), **other)])] == [False]


@pytest.mark.parametrize("request_text", [b"", b"{}", b'{"checks":[]}', b'{"checks":[{"unknown":1}]}', b"[]"])
def test_what_it_cannot_read_is_no_verdict(request_text: bytes) -> None:
    done = subprocess.run([LEDGERCHECK], input=request_text, capture_output=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stdout == b""
    assert len(done.stderr.splitlines()) == 1


def test_an_unknown_kind_does_not_pass() -> None:
    assert [verdict.ok for verdict in answers([{"kind": "other"}])] == [False]
