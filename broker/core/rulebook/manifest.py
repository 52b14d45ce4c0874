"""Signed manifests: who made a revision of the rulebook, when, of which one, and what for.

A C2SP signed note: a line that names the format, and the manifest as canonical JSON (RFC 8785) on a second line. So it is
no checkpoint, whose second line is a number, although the same keys sign both. One revision may have several: whoever
proposes it again makes another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, ValidationError

from broker.core.checkpoint.note import NoteInvalid, SignedNote, Signer, VerifierKey
from broker.core.ledger.canonical import canonical
from broker.core.ledger.signing import key_name
from broker.model.ledger import JsonValue

_FORMAT = "entente.v1/rulebook-manifest"
_NO_MANIFEST = "the note is no manifest of a rulebook's revision"


class _Author(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    agency: str
    subject: str


class _Shape(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    revision: str
    parent: str | None
    author: _Author | None
    time_ms: int
    message: str
    time_dependent: bool
    engine: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What is signed.

    revision: its id. parent: of the revision that it changes; None of the first. author: (agency, subject id); None of the
    first, which came from a directory. time_ms: since 1970, by the clock of the instance that took it. message: what for.
    time_dependent: whether its decisions are. engine: by which it was examined, such as "opa 1.22.2".
    """

    revision: str
    parent: str | None
    author: tuple[str, str] | None
    time_ms: int
    message: str
    time_dependent: bool
    engine: str

    def text(self) -> str:
        """The note's text. Raises NoteInvalid for what has no canonical JSON, such as a lone surrogate."""
        author: JsonValue = None
        if self.author is not None:
            author = {"agency": self.author[0], "subject": self.author[1]}
        value: JsonValue = {
            "revision": self.revision,
            "parent": self.parent,
            "author": author,
            "time_ms": self.time_ms,
            "message": self.message,
            "time_dependent": self.time_dependent,
            "engine": self.engine,
        }
        try:
            return f"{_FORMAT}\n{canonical(value).decode()}\n"
        except ValueError:
            raise NoteInvalid("a manifest holds texts of Unicode characters, and a time below 2^53") from None

    @classmethod
    def parse(cls, text: str) -> Manifest:
        """Read a note's text; raises NoteInvalid for all but the one form that `text` gives."""
        heading, _, rest = text.partition("\n")
        try:
            shape = _Shape.model_validate_json(rest if heading == _FORMAT else "")
        except ValidationError:
            raise NoteInvalid(_NO_MANIFEST) from None
        author = None if shape.author is None else (shape.author.agency, shape.author.subject)
        manifest = cls(
            shape.revision,
            shape.parent,
            author,
            shape.time_ms,
            shape.message,
            shape.time_dependent,
            shape.engine,
        )
        if manifest.text() != text:
            raise NoteInvalid(_NO_MANIFEST)
        return manifest


def manifest_origin(exchange: str) -> str:
    """The name under which an exchange's ledger keys sign manifests."""
    return f"{key_name(exchange)}/rulebook"


def sign_manifest(manifest: Manifest, signer: Signer) -> bytes:
    """The signed note. Raises NoteInvalid."""
    text = manifest.text()
    return SignedNote(text, (signer.sign(text),)).encode()


def verified_manifest(note: bytes, keys: Sequence[VerifierKey]) -> Manifest:
    """What a note says that one of the keys has signed. keys: under the name `manifest_origin`. Raises NoteInvalid."""
    signed = SignedNote.parse(note)
    # Each is looked at, since a known key's signature that does not verify condemns the note.
    signers = [key for key in keys if signed.is_signed_by(key)]
    if not signers:
        raise NoteInvalid("none of the exchange's keys has signed the manifest")
    return Manifest.parse(signed.text)


def unverified_manifest(note: bytes) -> Manifest:
    """What a note says, whoever wrote it: no signature is looked at. Raises NoteInvalid."""
    return Manifest.parse(SignedNote.parse(note).text)
