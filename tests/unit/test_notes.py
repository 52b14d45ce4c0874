"""Signed notes: known answers of golang.org/x/mod's sumdb/note, one written form, and what is refused."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from broker.core.checkpoint.note import (
    COSIGNATURE_V1,
    ED25519,
    MAX_NOTE_BYTES,
    MAX_SIGNATURES,
    NoteInvalid,
    NoteSignature,
    SignedNote,
    Signer,
    VerifierKey,
)

PLENTY = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])

# Keys, text and signatures of golang.org/x/mod v0.42.0, sumdb/note/note_test.go (© The Go Authors, BSD-3-Clause).
PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PETER_SEED = base64.b64decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")[1:]
ENOCH = "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop"
TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
PETER_LINE = "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
ENOCH_LINE = "— EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n"
# The public checksum database's key and one of its notes, in transparency-dev/formats v0.1.1, log/note_test.go (Apache-2.0).
SUMDB = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"
SUMDB_NOTE = """go.sum database tree
6476701
mb8QLQIs0Z0yP5Cstq6guj87oXWeC9gEM8oVikmm9Wk=

— sum.golang.org Az3grsLX85Gz+s1SiTbgkuqxgItqFq7gsMUEyVnrsa9LM7Us9S+1xbFIGu95949rj4nPRYfvimWEPWL+o3GeoWwOoAw=
"""

names = st.text(
    st.characters(exclude_characters="+", exclude_categories=["Cs", "Cc", "Z"]), min_size=1, max_size=20
)
lines = st.text(st.characters(min_codepoint=0x20, exclude_categories=["Cs"]), max_size=20)
note_texts = st.lists(lines, max_size=5).map(lambda parts: "\n".join(parts) + "\n")
seeds = st.binary(min_size=32, max_size=32)
signatures = st.builds(
    NoteSignature, names, st.binary(min_size=4, max_size=4), st.binary(min_size=1, max_size=80)
)


def opened(note: str | bytes) -> SignedNote:
    return SignedNote.parse(note.encode() if isinstance(note, str) else note)


# ---- known answers ----


def test_a_known_key_signs_the_known_note() -> None:
    signer = Signer("PeterNeumann", PETER_SEED)
    assert signer.verifier_key.text() == PETER
    note = SignedNote(TEXT, (signer.sign(TEXT),))
    assert note.encode().decode() == f"{TEXT}\n{PETER_LINE}"


def test_known_notes_open() -> None:
    note = opened(f"{TEXT}\n{PETER_LINE}{ENOCH_LINE}")
    assert note.text == TEXT
    assert [signature.name for signature in note.signatures] == ["PeterNeumann", "EnochRoot"]
    assert note.is_signed_by(VerifierKey.parse(PETER))
    assert note.is_signed_by(VerifierKey.parse(ENOCH))
    assert not note.is_signed_by(VerifierKey.parse(SUMDB))
    assert opened(SUMDB_NOTE).is_signed_by(VerifierKey.parse(SUMDB))


@pytest.mark.parametrize("text", [PETER, ENOCH, SUMDB])
def test_known_keys_are_read_and_written(text: str) -> None:
    key = VerifierKey.parse(text)
    assert (key.algorithm, key.text()) == (ED25519, text)


def test_a_known_cosigners_key_is_read() -> None:
    """The vkey of a public witness, in transparency-dev/formats v0.1.1, note/note_cosigv1_test.go (Apache-2.0)."""
    text = "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2"
    key = VerifierKey.parse(text)
    assert (key.algorithm, key.text()) == (COSIGNATURE_V1, text)


# ---- keys ----


def test_no_part_and_no_neighbour_of_a_key_is_a_key() -> None:
    parts = [PETER[begin:end] for begin in range(len(PETER)) for end in range(begin, len(PETER) + 1)]
    for text in parts:
        if text != PETER:
            with pytest.raises(NoteInvalid):
                VerifierKey.parse(text)
    for n, character in enumerate(PETER):
        with pytest.raises(NoteInvalid):
            VerifierKey.parse(PETER[:n] + chr(ord(character) + 1) + PETER[n + 1 :])


@pytest.mark.parametrize(
    "text",
    [
        "PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY==",  # of another length; the hash fits
        "PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",  # of an unknown type; the hash fits
        PETER.replace("c74f20a3", "C74F20A3"),
        PETER.replace("c74f20a3", "0c74f20a3"),
        PETER + "\n",
        PETER + "=",
        PETER + "+",
        " " + PETER,
        PETER.replace("PeterNeumann", ""),
        PETER.replace("PeterNeumann", "Peter Neumann"),
        PETER.replace("+", "-"),
        "name",
        "",
        "a++",
    ],
)
def test_other_forms_of_keys_are_refused(text: str) -> None:
    with pytest.raises(NoteInvalid) as error:
        VerifierKey.parse(text)
    assert "\n" not in str(error.value)


@PLENTY
@given(names, seeds, st.sampled_from([ED25519, COSIGNATURE_V1]))
def test_keys_round_trip(name: str, seed: bytes, algorithm: int) -> None:
    key = VerifierKey(name, algorithm, Signer(name, seed).verifier_key.public_key)
    assert VerifierKey.parse(key.text()) == key
    other = key.named(name + "x")
    assert (other.public_key, other.algorithm) == (key.public_key, key.algorithm)
    assert other.key_hash != key.key_hash


def test_one_key_has_another_hash_for_each_type() -> None:
    public = VerifierKey.parse(PETER).public_key
    assert VerifierKey("a", ED25519, public).key_hash != VerifierKey("a", COSIGNATURE_V1, public).key_hash


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a b",
        "a+b",
        "a\tb",
        "a\nb",
        "a\x00",
        "a\x1fb",
        "a\u00a0b",
        "a\u2003b",
        "a\u3000",
        "\u2028",
        "\ud800",
    ],
)
def test_names_that_cannot_stand_in_a_note_are_refused(name: str) -> None:
    with pytest.raises(NoteInvalid, match="name"):
        Signer(name, PETER_SEED)
    with pytest.raises(NoteInvalid, match="name"):
        NoteSignature(name, b"1234", b"5")


def test_keys_and_seeds_of_another_length_are_refused() -> None:
    with pytest.raises(NoteInvalid, match="32 bytes"):
        VerifierKey.ed25519("a", b"short")
    with pytest.raises(ValueError):
        Signer("a", b"short")


# ---- notes ----


@PLENTY
@given(note_texts, st.lists(signatures, min_size=1, max_size=5))
def test_notes_round_trip(text: str, signed: list[NoteSignature]) -> None:
    note = SignedNote(text, tuple(signed))
    assert opened(note.encode()) == note


@PLENTY
@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_what_can_be_read_is_what_would_be_written(note: bytes) -> None:
    for candidate in (note, TEXT.encode() + b"\n" + note, note + f"\n{PETER_LINE}".encode()):
        try:
            parsed = opened(candidate)
        except NoteInvalid:
            continue
        assert parsed.encode() == candidate


@PLENTY
@given(note_texts, names, seeds, st.data())
def test_signed_by_one_key_and_no_other(text: str, name: str, seed: bytes, data: st.DataObject) -> None:
    signer = Signer(name, seed)
    note = SignedNote(text, (signer.sign(text),))
    key = signer.verifier_key
    assert note.is_signed_by(key)
    assert not note.is_signed_by(key.named(name + "x"))
    assert not note.is_signed_by(VerifierKey.parse(PETER))
    position = data.draw(st.integers(0, len(note.signatures[0].signature) * 8 - 1))
    changed = bytearray(note.signatures[0].signature)
    changed[position // 8] ^= 1 << position % 8
    with pytest.raises(NoteInvalid, match="does not verify"):
        SignedNote(text, (replace(note.signatures[0], signature=bytes(changed)),)).is_signed_by(key)


@PLENTY
@given(note_texts, note_texts)
def test_a_signature_is_good_for_one_text(text: str, other: str) -> None:
    assume(text != other)
    signer = Signer("a", PETER_SEED)
    with pytest.raises(NoteInvalid, match="does not verify"):
        SignedNote(other, (signer.sign(text),)).is_signed_by(signer.verifier_key)


def test_any_changed_byte_of_a_signed_note_is_found() -> None:
    note, key = f"{TEXT}\n{PETER_LINE}".encode(), VerifierKey.parse(PETER)
    for position in range(len(note)):
        for bit in range(8):
            changed = bytearray(note)
            changed[position] ^= 1 << bit
            try:
                signed = SignedNote.parse(bytes(changed)).is_signed_by(key)
            except NoteInvalid:
                signed = False
            assert not signed, (position, bit)


def test_a_text_may_hold_blank_lines_and_what_looks_like_signatures() -> None:
    signer = Signer("a", PETER_SEED)
    for text in ("\n", "a\n\n", "a\n\nb\n", f"a\n\n{PETER_LINE}", f"{TEXT}\n{PETER_LINE}\n"):
        note = opened(SignedNote(text, (signer.sign(text),)).encode())
        assert note.text == text
        assert len(note.signatures) == 1
        assert note.is_signed_by(signer.verifier_key)
        assert not note.is_signed_by(VerifierKey.parse(PETER))


@pytest.mark.parametrize(
    "note",
    [
        b"",
        b"\n",
        b"\n\n",
        TEXT.encode(),
        f"{TEXT}\n".encode(),
        f"{TEXT}{PETER_LINE}".encode(),  # no blank line
        f"\n{PETER_LINE}".encode(),  # no text
        PETER_LINE.encode(),
        f"{TEXT}\n{PETER_LINE[:-1]}".encode(),  # no newline at the end
        f"{TEXT}\n{PETER_LINE}\n".encode(),  # a blank line after the signatures
        f"{TEXT}\n{PETER_LINE}\n{ENOCH_LINE}\n".encode(),
        f"{TEXT}\n{PETER_LINE}more\n".encode(),
        f"{TEXT}\nmore\n{PETER_LINE}".encode(),
        b"\x01" + f"{TEXT}\n{PETER_LINE}".encode(),
        b"\xff" + f"{TEXT}\n{PETER_LINE}".encode(),
        b"\xed\xa0\x80" + f"{TEXT}\n{PETER_LINE}".encode(),  # a lone surrogate
        b"\xc0\x8a" + f"{TEXT}\n{PETER_LINE}".encode(),  # a newline that is longer than it needs to be
        f"a\tb\n\n{PETER_LINE}".encode(),
        f"a\x00b\n\n{PETER_LINE}".encode(),
        f"{TEXT}\n{PETER_LINE}".replace("\n", "\r\n").encode(),
        f"{TEXT}\n{PETER_LINE}".encode("utf-16"),
        f"{TEXT}\n— PeterNeumann\n".encode(),
        f"{TEXT}\n— \n".encode(),
        f"{TEXT}\n— PeterNeumann \n".encode(),
        f"{TEXT}\n—  {PETER_LINE[2:]}".encode(),  # two spaces
        f"{TEXT}\n—{PETER_LINE[2:]}".encode(),  # none
        f"{TEXT}\n- {PETER_LINE[2:]}".encode(),  # an ordinary dash
        f"{TEXT}\n– {PETER_LINE[2:]}".encode(),  # noqa: RUF001 - an en dash
        f"{TEXT}\n {PETER_LINE}".encode(),
        f"{TEXT}\n{PETER_LINE[:-1]} \n".encode(),
        f"{TEXT}\n— Peter+Neumann{PETER_LINE[14:]}".encode(),
        f"{TEXT}\n— Peter\u00a0Neumann{PETER_LINE[14:]}".encode(),
        f"{TEXT}\n— a x08gow\n".encode(),  # base64 without its padding
        f"{TEXT}\n— a x08gow=\n".encode(),
        f"{TEXT}\n— a x08gox==\n".encode(),  # bits in the padding
        f"{TEXT}\n— a x08g!ow==\n".encode(),
        f"{TEXT}\n— a x08g_w==\n".encode(),  # the URL alphabet
        f"{TEXT}\n— a ééééé===\n".encode(),
        f"{TEXT}\n— a x08gow==x08gow==\n".encode(),
        f"{TEXT}\n— a x08gow==\n".encode(),  # a key hash, and no signature
        f"{TEXT}\n— a x08g\n".encode(),
    ],
)
def test_malformed_notes_are_refused(note: bytes) -> None:
    with pytest.raises(NoteInvalid) as error:
        SignedNote.parse(note)
    assert "\n" not in str(error.value)


def test_what_cannot_be_read_back_cannot_be_made() -> None:
    good = Signer("a", PETER_SEED).sign("text\n")
    for text in ("", "text", "a\x00\n", "a\r\n", "a\ud800\n"):
        with pytest.raises(NoteInvalid):
            SignedNote(text, (good,))
    with pytest.raises(NoteInvalid):
        SignedNote("text\n", ())


def test_as_many_signatures_as_are_allowed() -> None:
    line = f"{PETER_LINE}"
    assert len(opened(f"{TEXT}\n{line * MAX_SIGNATURES}").signatures) == MAX_SIGNATURES
    with pytest.raises(NoteInvalid, match="signatures"):
        opened(f"{TEXT}\n{line * (MAX_SIGNATURES + 1)}")


def test_as_many_bytes_as_are_allowed() -> None:
    most = MAX_NOTE_BYTES - len(f"\n\n{PETER_LINE}".encode())
    assert len(opened(f"{'a' * most}\n\n{PETER_LINE}").encode()) == MAX_NOTE_BYTES
    for text in ("a" * (most + 1), "é" * (most // 2 + 1)):
        with pytest.raises(NoteInvalid, match="bytes"):
            opened(f"{text}\n\n{PETER_LINE}")
        with pytest.raises(NoteInvalid, match="bytes"):
            SignedNote(f"{text}\n", (Signer("PeterNeumann", PETER_SEED).sign("x\n"),))


def test_signatures_of_strangers_do_not_count() -> None:
    """Also those that share a name or a hash with a known key, as the text demands."""
    key = VerifierKey.parse(PETER)
    true = NoteSignature.parse(PETER_LINE.rstrip("\n"))
    strangers = (
        replace(true, name="EnochRoot"),
        replace(true, key_hash=b"\0\0\0\0"),
        NoteSignature("PeterNeumann", b"\1\2\3\4", b"of another type"),
    )
    assert not SignedNote(TEXT, strangers).is_signed_by(key)
    assert SignedNote(TEXT, (*strangers, true)).is_signed_by(key)


def test_a_known_keys_false_signature_condemns_the_note() -> None:
    key = VerifierKey.parse(PETER)
    true = NoteSignature.parse(PETER_LINE.rstrip("\n"))
    for signature in (b"x", true.signature[:-1], true.signature + b"\0", bytes(64)):
        with pytest.raises(NoteInvalid, match="does not verify"):
            SignedNote(TEXT, (replace(true, signature=signature),)).is_signed_by(key)


def test_several_signatures_of_one_key_are_refused() -> None:
    key = VerifierKey.parse(PETER)
    true = NoteSignature.parse(PETER_LINE.rstrip("\n"))
    for signed in ((true, true), (true, replace(true, signature=bytes(64)))):
        with pytest.raises(NoteInvalid, match="several"):
            SignedNote(TEXT, signed).is_signed_by(key)


def test_a_cosigners_key_does_not_sign_notes() -> None:
    key = replace(VerifierKey.parse(PETER), algorithm=COSIGNATURE_V1)
    true = NoteSignature.parse(PETER_LINE.rstrip("\n"))
    with pytest.raises(NoteInvalid, match="cosignatures"):
        SignedNote(TEXT, (replace(true, key_hash=key.key_hash),)).is_signed_by(key)


def test_a_name_in_an_error_is_short_and_escaped() -> None:
    signer = Signer("\x9b2J\u202e" + "a" * 1000, PETER_SEED)
    with pytest.raises(NoteInvalid) as error:
        SignedNote("b\n", (signer.sign("a\n"),)).is_signed_by(signer.verifier_key)
    assert str(error.value).isascii()
    assert len(str(error.value)) < 150


def test_errors_hold_nothing_of_a_note() -> None:
    for note in (f"{TEXT}\n— secret-name\n", f"{TEXT}\n— a secret-base64!\n", "secret"):
        with pytest.raises(NoteInvalid) as error:
            opened(note)
        assert "secret" not in str(error.value)
