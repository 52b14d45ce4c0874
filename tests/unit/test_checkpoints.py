"""Checkpoints and cosignatures: known answers of public implementations, one written form, and what is refused."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.core.checkpoint.checkpoint import MAX_SIZE, Checkpoint, open_checkpoint, sign_checkpoint
from broker.core.checkpoint.cosignature import MAX_TIME_S, Cosigner, cosignature_time_s
from broker.core.checkpoint.note import (
    COSIGNATURE_V1,
    NoteInvalid,
    NoteSignature,
    SignedNote,
    Signer,
    VerifierKey,
)
from broker.core.merkle.hashing import EMPTY_ROOT

PLENTY = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])

# Made with golang.org/x/mod v0.42.0 (sumdb/note) and transparency-dev/formats v0.1.1: the log's seed is 32 times 0x01, the
# witness's 32 times 0x02, the root that of Certificate Transparency's reference tree of eight leaves.
LOG = "example.com/ledger+3481d542+AYqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c"
WITNESS = "witness.example.com/w1+745fb5e8+BIE5dw6ofRdfVqNUZsNMfszLjYqRtO43ol32D1uPybOU"
COSIGNED = """example.com/ledger
8
XcnaeacGWamtVZy3Ad7ZoqudgjqtL0lgz+Nw7/RgQyg=

— example.com/ledger NIHVQgxvS6l3WpL5i5PjNqkwIY75hOiFCPgBMgzQccOLH0TKcTIqmXb0mv+lbYmi2WWDHn1navCaMkhADz5W8t/eggg=
— witness.example.com/w1 dF+16AAAAABrAqKsQW9e3hSx301PgGdcCy/CR9zlmp3FUTX9i+ncE+l3pciD59wJen7Fg9pNCrnFtM2BrN8gBipWO/zLkQ3GdlbgCQ==
""".encode()  # noqa: E501 - a signature line is one line
COSIGNED_AT_S = 0x6B02A2AC

ROOT = bytes.fromhex("5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328")
CHECKPOINT = Checkpoint("example.com/ledger", 8, ROOT)
SIGNER = Signer(CHECKPOINT.origin, b"\x01" * 32)
COSIGNER = Cosigner("witness.example.com/w1", b"\x02" * 32)

lines = st.text(st.characters(min_codepoint=0x20, exclude_categories=["Cs"]), min_size=1, max_size=30)
checkpoints = st.builds(
    Checkpoint,
    lines,
    st.integers(1, MAX_SIZE),
    st.binary(min_size=32, max_size=32),
    st.lists(lines, max_size=3).map(tuple),
)


def refused(call: Callable[[], object]) -> bool:
    try:
        call()
    except NoteInvalid as error:
        assert "\n" not in str(error)
        return True
    return False


# ---- known answers ----


def test_a_note_of_public_implementations_opens() -> None:
    checkpoint, note = open_checkpoint(COSIGNED, [VerifierKey.parse(LOG)])
    assert checkpoint == CHECKPOINT
    assert cosignature_time_s(note, VerifierKey.parse(WITNESS)) == COSIGNED_AT_S


def test_the_same_note_is_made_here() -> None:
    assert SIGNER.verifier_key.text() == LOG
    assert COSIGNER.verifier_key.text() == WITNESS
    note = SignedNote.parse(sign_checkpoint(CHECKPOINT, [SIGNER]))
    cosignature = COSIGNER.cosign(note.text, COSIGNED_AT_S)
    assert SignedNote(note.text, (*note.signatures, cosignature)).encode() == COSIGNED


def test_the_messages_are_those_of_the_specification() -> None:
    """What is signed, word by word (C2SP tlog-checkpoint, Note text; tlog-cosignature, Ed25519 signed message)."""
    text = "example.com/ledger\n8\nXcnaeacGWamtVZy3Ad7ZoqudgjqtL0lgz+Nw7/RgQyg=\n"
    assert CHECKPOINT.text() == text
    key = Ed25519PrivateKey.from_private_bytes(b"\x02" * 32)
    signed = key.sign(b"cosignature/v1\ntime 1679315147\n" + text.encode())
    assert COSIGNER.cosign(text, 1679315147).signature == struct.pack(">Q", 1679315147) + signed


# ---- the text ----


@PLENTY
@given(checkpoints)
def test_checkpoints_round_trip(checkpoint: Checkpoint) -> None:
    assert Checkpoint.parse(checkpoint.text()) == checkpoint


@PLENTY
@given(
    st.lists(st.sampled_from(["a", "", "0", "8", "+8", "08", CHECKPOINT.text().split("\n")[2]]), max_size=5)
)
def test_what_can_be_read_is_what_would_be_written(parts: list[str]) -> None:
    for text in ("\n".join(parts), "\n".join(parts) + "\n"):
        try:
            checkpoint = Checkpoint.parse(text)
        except NoteInvalid:
            continue
        assert checkpoint.text() == text


@pytest.mark.parametrize(
    "size",
    [
        "",
        "08",
        "00",
        "+8",
        "-8",
        "-0",
        " 8",
        "8 ",
        "0x8",
        "8.0",
        "8e0",
        "1_0",
        "\u0668",
        "\uff18",
        "\u00b2",
        "8\r",
        str(2**63),
        "9" * 5000,
    ],
)
def test_sizes_in_other_forms_are_refused(size: str) -> None:
    text = CHECKPOINT.text().replace("\n8\n", f"\n{size}\n")
    assert refused(lambda: Checkpoint.parse(text))


@pytest.mark.parametrize(
    "root",
    [
        "",
        "XcnaeacGWamtVZy3Ad7ZoqudgjqtL0lgz+Nw7/RgQyg",  # without padding
        "XcnaeacGWamtVZy3Ad7ZoqudgjqtL0lgz+Nw7/RgQyh=",  # with bits in the padding
        "XcnaeacGWamtVZy3Ad7ZoqudgjqtL0lgz-Nw7_RgQyg=",  # in the URL alphabet
        "XcnaeacGWamtVZy3Ad7ZoqudgjqtL0lgz+Nw7/RgQyg= ",
        " XcnaeacGWamtVZy3Ad7ZoqudgjqtL0lgz+Nw7/RgQyg=",
        "XcnaeacGWamtVZy3Ad7Zoqudgjqt L0lgz+Nw7/RgQyg=",
        "XcnaeacGWamtVZy3Ad7ZoqudgjqtL0lgz+Nw7/RgQyg==",
        "XcnaeacGWamtVZy3Ad7ZoqudgjqtL0lgz+Nw7/RgQ===",
        "XcnaeacGWamtVZy3Ad7ZoqudgjqtL0lgz+Nw7/RgQyhA",  # 33 bytes
        "YmFuYW5hcw==",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        "é" * 44,
    ],
)
def test_roots_in_other_forms_are_refused(root: str) -> None:
    assert refused(lambda: Checkpoint.parse(f"example.com/ledger\n8\n{root}\n"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "\n\n\n",
        CHECKPOINT.text()[:-1],
        CHECKPOINT.text() + "\n",
        CHECKPOINT.text() + "extension",
        CHECKPOINT.text() + "\nextension\n",
        CHECKPOINT.text() + "extension\n\n",
        "\n" + CHECKPOINT.text(),
        CHECKPOINT.text().replace("example.com/ledger", ""),
        CHECKPOINT.text().replace("\n", "\r\n"),
        CHECKPOINT.text().replace("\n", "\u2028"),
        CHECKPOINT.text().replace("ledger", "led\tger"),
        "example.com/ledger\n8\n",
        "example.com/ledger\n0\nXcnaeacGWamtVZy3Ad7ZoqudgjqtL0lgz+Nw7/RgQyg=\n",  # an empty tree has one root only
    ],
)
def test_other_texts_are_no_checkpoints(text: str) -> None:
    assert refused(lambda: Checkpoint.parse(text))


def test_an_empty_tree_and_the_largest_one() -> None:
    for checkpoint in (Checkpoint("a", 0, EMPTY_ROOT), Checkpoint("a", MAX_SIZE, ROOT)):
        assert Checkpoint.parse(checkpoint.text()) == checkpoint


@pytest.mark.parametrize(
    "arguments",
    [
        ("", 8, ROOT),
        ("a\nb", 8, ROOT),
        ("a\x00", 8, ROOT),
        ("\ud800", 8, ROOT),
        ("a", -1, ROOT),
        ("a", MAX_SIZE + 1, ROOT),
        ("a", 8, ROOT[:-1]),
        ("a", 0, ROOT),
        ("a", 8, ROOT, ("",)),
        ("a", 8, ROOT, ("b\nc",)),
    ],
)
def test_what_cannot_be_read_back_cannot_be_made(arguments: tuple[str, int, bytes]) -> None:
    assert refused(lambda: Checkpoint(*arguments))


# ---- opening ----


@PLENTY
@given(checkpoints.filter(lambda c: not refused(lambda: VerifierKey.parse(LOG).named(c.origin))))
def test_signed_checkpoints_open_with_the_key_under_any_name(checkpoint: Checkpoint) -> None:
    signer = Signer(checkpoint.origin, b"\x05" * 32)
    opened, note = open_checkpoint(
        sign_checkpoint(checkpoint, [signer]), [signer.verifier_key.named("other")]
    )
    assert opened == checkpoint
    assert note.text == checkpoint.text()


def test_a_stranger_cannot_sign_for_an_origin() -> None:
    key = VerifierKey.parse(LOG)
    stranger = Signer(CHECKPOINT.origin, b"\x07" * 32)
    elsewhere = Signer("example.com/other", b"\x01" * 32)
    for signers in ([stranger], [elsewhere], [stranger, elsewhere]):
        note = sign_checkpoint(CHECKPOINT, signers)
        with pytest.raises(NoteInvalid, match="none of the known keys"):
            open_checkpoint(note, [key])
    with pytest.raises(NoteInvalid, match="none of the known keys"):
        open_checkpoint(COSIGNED, [])


def test_one_of_several_keys_is_enough_as_while_they_rotate() -> None:
    newer = Signer(CHECKPOINT.origin, b"\x07" * 32)
    keys = [SIGNER.verifier_key, newer.verifier_key]
    for signers in ([SIGNER], [newer], [SIGNER, newer]):
        assert open_checkpoint(sign_checkpoint(CHECKPOINT, signers), keys)[0] == CHECKPOINT


def test_a_false_signature_of_a_known_key_condemns_the_checkpoint() -> None:
    newer = Signer(CHECKPOINT.origin, b"\x07" * 32)
    note = SignedNote.parse(sign_checkpoint(CHECKPOINT, [SIGNER, newer]))
    false = replace(note.signatures[1], signature=bytes(64))
    condemned = SignedNote(note.text, (note.signatures[0], false)).encode()
    with pytest.raises(NoteInvalid, match="does not verify"):
        open_checkpoint(condemned, [SIGNER.verifier_key, newer.verifier_key])
    assert open_checkpoint(condemned, [SIGNER.verifier_key])[0] == CHECKPOINT


def test_another_text_under_a_true_signature_does_not_open() -> None:
    true = SIGNER.sign(CHECKPOINT.text())
    for other in (
        replace(CHECKPOINT, size=9),
        replace(CHECKPOINT, root=EMPTY_ROOT),
        replace(CHECKPOINT, extensions=("x",)),
    ):
        with pytest.raises(NoteInvalid, match="does not verify"):
            open_checkpoint(SignedNote(other.text(), (true,)).encode(), [SIGNER.verifier_key])


def test_a_signed_note_that_is_no_checkpoint_does_not_open() -> None:
    text = "example.com/ledger\nis not a tree\n"
    note = SignedNote(text, (SIGNER.sign(text),))
    assert note.is_signed_by(SIGNER.verifier_key)
    assert refused(lambda: open_checkpoint(note.encode(), [SIGNER.verifier_key]))


def test_an_origin_that_is_no_key_name_does_not_open() -> None:
    text = replace(CHECKPOINT, origin="go.sum database tree").text()
    assert refused(
        lambda: open_checkpoint(SignedNote(text, (SIGNER.sign(text),)).encode(), [SIGNER.verifier_key])
    )


def test_a_checkpoint_needs_a_signer() -> None:
    assert refused(lambda: sign_checkpoint(CHECKPOINT, []))


# ---- cosignatures ----


def cosigned(*signatures: NoteSignature, text: str = CHECKPOINT.text()) -> SignedNote:
    return SignedNote(text, (SIGNER.sign(text), *signatures))


@PLENTY
@given(checkpoints, st.integers(1, MAX_TIME_S), st.integers(0, 72 * 8 - 1))
def test_cosignatures_verify_until_a_bit_changes(checkpoint: Checkpoint, time_s: int, bit: int) -> None:
    signature = COSIGNER.cosign(checkpoint.text(), time_s)
    note, key = cosigned(signature, text=checkpoint.text()), COSIGNER.verifier_key
    assert cosignature_time_s(SignedNote.parse(note.encode()), key) == time_s
    changed = bytearray(signature.signature)
    changed[bit // 8] ^= 1 << bit % 8
    damaged = cosigned(replace(signature, signature=bytes(changed)), text=checkpoint.text())
    assert refused(lambda: cosignature_time_s(damaged, key))


def test_a_witness_that_has_not_cosigned() -> None:
    assert cosignature_time_s(cosigned(), COSIGNER.verifier_key) is None
    other = Cosigner(COSIGNER.verifier_key.name, b"\x09" * 32)
    note = cosigned(other.cosign(CHECKPOINT.text(), 5))
    assert cosignature_time_s(note, COSIGNER.verifier_key) is None
    assert cosignature_time_s(note, other.verifier_key) == 5


def test_a_cosignature_of_another_checkpoint_is_refused() -> None:
    other = replace(CHECKPOINT, size=9).text()
    note = cosigned(COSIGNER.cosign(CHECKPOINT.text(), 5), text=other)
    with pytest.raises(NoteInvalid, match="does not verify"):
        cosignature_time_s(note, COSIGNER.verifier_key)


def _false_cosignatures() -> list[bytes]:
    good = COSIGNER.cosign(CHECKPOINT.text(), 5).signature
    key = Ed25519PrivateKey.from_private_bytes(b"\x02" * 32)

    def at(time_s: int) -> bytes:
        return struct.pack(">Q", time_s) + key.sign(
            f"cosignature/v1\ntime {time_s}\n{CHECKPOINT.text()}".encode()
        )

    return [
        good[:-1],
        good + b"\0",
        good[8:],
        struct.pack(">Q", 6) + good[8:],  # another time
        struct.pack("<Q", 5) + good[8:],  # the other byte order
        at(0),
        at(MAX_TIME_S + 1),
        struct.pack(">Q", 5)
        + key.sign(CHECKPOINT.text().encode()),  # a note's signature, with a time before it
        struct.pack(">Q", 5) + key.sign(f"cosignature/v1\ntime 05\n{CHECKPOINT.text()}".encode()),
    ]


@pytest.mark.parametrize("number", range(len(_false_cosignatures())))
def test_false_cosignatures_are_refused(number: int) -> None:
    key = COSIGNER.verifier_key
    signature = NoteSignature(key.name, key.key_hash, _false_cosignatures()[number])
    assert refused(lambda: cosignature_time_s(cosigned(signature), key))


def test_several_cosignatures_of_one_witness_are_refused() -> None:
    twice = [COSIGNER.cosign(CHECKPOINT.text(), time_s) for time_s in (5, 6)]
    with pytest.raises(NoteInvalid, match="several"):
        cosignature_time_s(cosigned(*twice), COSIGNER.verifier_key)


@pytest.mark.parametrize("time_s", [0, -1, MAX_TIME_S + 1])
def test_a_time_that_cannot_be_written_is_refused(time_s: int) -> None:
    assert refused(lambda: COSIGNER.cosign(CHECKPOINT.text(), time_s))


def test_only_checkpoints_are_cosigned() -> None:
    assert refused(lambda: COSIGNER.cosign("example.com/ledger\nis not a tree\n", 5))
    text = "a\nb\n"
    key = COSIGNER.verifier_key
    signed = Ed25519PrivateKey.from_private_bytes(b"\x02" * 32).sign(
        b"cosignature/v1\ntime 5\n" + text.encode()
    )
    note = SignedNote(text, (NoteSignature(key.name, key.key_hash, struct.pack(">Q", 5) + signed),))
    assert refused(lambda: cosignature_time_s(note, key))


def test_notes_and_cosignatures_are_never_taken_for_each_other() -> None:
    """One key under both types: neither signature counts as the other, whichever hash its line claims."""
    both = Signer(COSIGNER.verifier_key.name, b"\x02" * 32)
    assert both.verifier_key.public_key == COSIGNER.verifier_key.public_key
    note_signature = both.sign(CHECKPOINT.text())
    cosignature = COSIGNER.cosign(CHECKPOINT.text(), 5)
    note = SignedNote(CHECKPOINT.text(), (note_signature,))
    assert cosignature_time_s(note, COSIGNER.verifier_key) is None
    assert not SignedNote(CHECKPOINT.text(), (cosignature,)).is_signed_by(both.verifier_key)
    renamed = replace(note_signature, key_hash=cosignature.key_hash)
    assert refused(lambda: cosignature_time_s(SignedNote(note.text, (renamed,)), COSIGNER.verifier_key))
    renamed = replace(cosignature, key_hash=note_signature.key_hash)
    assert refused(lambda: SignedNote(note.text, (renamed,)).is_signed_by(both.verifier_key))


def test_a_logs_key_is_asked_for_no_cosignature_and_the_other_way_round() -> None:
    with pytest.raises(NoteInvalid, match="for notes"):
        cosignature_time_s(cosigned(), SIGNER.verifier_key)
    with pytest.raises(NoteInvalid, match="for cosignatures"):
        open_checkpoint(COSIGNED, [VerifierKey.parse(WITNESS)])
    assert COSIGNER.verifier_key.algorithm == COSIGNATURE_V1
