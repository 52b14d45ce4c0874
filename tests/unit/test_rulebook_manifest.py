"""Signed manifests: a known answer, one written form, and what is refused."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core.checkpoint.checkpoint import unverified_checkpoint
from broker.core.checkpoint.note import NoteInvalid, SignedNote, Signer, VerifierKey
from broker.core.rulebook.manifest import (
    Manifest,
    manifest_origin,
    sign_manifest,
    unverified_manifest,
    verified_manifest,
)

ORIGIN = manifest_origin("the exchange")
SIGNER = Signer(ORIGIN, bytes(range(32)))
KEY = SIGNER.verifier_key
OTHER = Signer(ORIGIN, bytes(range(1, 33)))
MANIFEST = Manifest(
    revision="sha256:aa",
    parent="sha256:bb",
    author=("ems", "admin-1"),
    time_ms=1_767_225_600_000,
    message="Röntgen\nfor all",
    time_dependent=False,
    engine="opa 1.22.2",
)
TEXT = (
    "entente.v1/rulebook-manifest\n"
    '{"author":{"agency":"ems","subject":"admin-1"},"engine":"opa 1.22.2","message":"Röntgen\\nfor all",'
    '"parent":"sha256:bb","revision":"sha256:aa","time_dependent":false,"time_ms":1767225600000}\n'
)
# Ed25519 (RFC 8032) signs the same text alike each time.
NOTE = (
    f"{TEXT}\n— the-exchange/rulebook "
    "v5Q31nKSblMqR2WRAHe9OwSQWmXZ9vOowvIlZjgHt5PkToEQmx"
    "b0N+o5jHjlg1WI/OUTDtGsVwPX7DQeezoGWLIJvgU=\n"
)


def test_known_answer() -> None:
    assert MANIFEST.text() == TEXT
    note = sign_manifest(MANIFEST, SIGNER).decode()
    assert ORIGIN == "the-exchange/rulebook"
    assert note == NOTE
    assert verified_manifest(note.encode(), [KEY]) == MANIFEST
    assert unverified_manifest(note.encode()) == MANIFEST


def test_a_revision_that_came_from_a_directory_has_neither_parent_nor_author() -> None:
    first = dataclasses.replace(MANIFEST, parent=None, author=None)
    assert '"author":null' in first.text() and '"parent":null' in first.text()
    assert verified_manifest(sign_manifest(first, SIGNER), [KEY]) == first


def test_one_of_the_exchange_s_keys_has_to_have_signed() -> None:
    note = sign_manifest(MANIFEST, SIGNER)
    assert verified_manifest(note, [OTHER.verifier_key, KEY]) == MANIFEST
    for keys in ([], [OTHER.verifier_key], [KEY.named("the-exchange")]):
        with pytest.raises(NoteInvalid, match="none of the exchange's keys"):
            verified_manifest(note, keys)


def test_a_manifest_that_was_changed_is_refused() -> None:
    note = sign_manifest(MANIFEST, SIGNER)
    changed = note.replace(b'"admin-1"', b'"admin-2"')
    assert changed != note
    with pytest.raises(NoteInvalid, match="does not verify"):
        verified_manifest(changed, [KEY])
    # A signature that does not verify condemns a note that another key has signed well.
    signed = SignedNote.parse(changed)
    both = SignedNote(signed.text, (OTHER.sign(signed.text), *signed.signatures)).encode()
    with pytest.raises(NoteInvalid, match="does not verify"):
        verified_manifest(both, [OTHER.verifier_key, KEY])


def test_no_manifest_is_a_checkpoint() -> None:
    with pytest.raises(NoteInvalid):
        unverified_checkpoint(sign_manifest(MANIFEST, SIGNER))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        TEXT + "\n",
        TEXT[:-1],
        TEXT.replace("v1", "v2"),
        TEXT.replace(',"time_dependent":false', ""),
        TEXT.replace("false", "0"),
        TEXT.replace("1767225600000", '"1767225600000"'),
        TEXT.replace("1767225600000", "1767225600000.0"),
        TEXT.replace("{", '{"more":1,', 1),
        TEXT.replace('"subject":"admin-1"', '"subject":null'),
        TEXT.replace(',"subject":"admin-1"', ""),
        TEXT.replace('{"agency":"ems","subject":"admin-1"}', '["ems","admin-1"]'),
        TEXT.replace('"engine"', ' "engine"'),
        TEXT.replace('"opa 1.22.2"', "null"),
        TEXT.replace("ö", "\\u00f6"),
        "entente.v1/rulebook-manifest\nnull\n",
        "entente.v1/rulebook-manifest\n{}\n",
    ],
)
def test_all_but_the_one_form_is_refused(text: str) -> None:
    with pytest.raises(NoteInvalid):
        Manifest.parse(text)


@pytest.mark.parametrize("wrong", [{"message": "\ud800"}, {"time_ms": 2**60}])
def test_what_has_no_canonical_form_is_not_signed(wrong: dict[str, Any]) -> None:
    with pytest.raises(NoteInvalid):
        sign_manifest(dataclasses.replace(MANIFEST, **wrong), SIGNER)


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@given(
    st.builds(
        Manifest,
        revision=TEXTS,
        parent=st.none() | TEXTS,
        author=st.none() | st.tuples(TEXTS, TEXTS),
        time_ms=st.integers(0, 2**53 - 1),
        message=TEXTS,
        time_dependent=st.booleans(),
        engine=TEXTS,
    )
)
def test_what_is_signed_is_read_back(manifest: Manifest) -> None:
    assert verified_manifest(sign_manifest(manifest, SIGNER), [KEY]) == manifest


def test_keys_of_a_file_verify_under_the_manifests_name() -> None:
    published = VerifierKey.parse(KEY.named("the-exchange").text())
    assert verified_manifest(sign_manifest(MANIFEST, SIGNER), [published.named(ORIGIN)]) == MANIFEST
