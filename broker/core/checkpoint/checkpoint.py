"""Checkpoints (C2SP tlog-checkpoint): the size and root of a log's tree, as the text of a signed note."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass

from broker.core.checkpoint.note import NoteInvalid, SignedNote, Signer, VerifierKey, from_base64
from broker.core.merkle.hashing import EMPTY_ROOT, HASH_BYTES

MAX_SIZE = 2**63 - 1
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")
_NOT_IN_A_LINE = re.compile("[\x00-\x1f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a log says of its tree. origin: the log's name; root: 32 bytes; extensions: lines that this project ignores."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if any(not line or _NOT_IN_A_LINE.search(line) for line in (self.origin, *self.extensions)):
            raise NoteInvalid("a checkpoint's lines are not empty, and are UTF-8 without control characters")
        if not 0 <= self.size <= MAX_SIZE or len(self.root) != HASH_BYTES:
            raise NoteInvalid("a checkpoint has a size below 2^63 and a root of 32 bytes")
        if not self.size and self.root != EMPTY_ROOT:
            raise NoteInvalid("the root of an empty tree is the hash of nothing (RFC 6962 §2.1)")

    def text(self) -> str:
        """The note's text: origin, size, root in base64, extensions, each a line."""
        root = base64.b64encode(self.root).decode()
        return "".join(f"{line}\n" for line in (self.origin, str(self.size), root, *self.extensions))

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """Read a note's text; raises NoteInvalid for all but the one form that `text` gives."""
        lines = text.split("\n")
        if len(lines) < 4 or lines[-1]:
            raise NoteInvalid("a checkpoint has three lines or more, each with a newline at its end")
        origin, size, root, *extensions = lines[:-1]
        if not _SIZE.fullmatch(size):
            raise NoteInvalid("a checkpoint's second line is a size in decimal digits without leading zeros")
        return cls(origin, int(size), from_base64(root), tuple(extensions))


def sign_checkpoint(checkpoint: Checkpoint, signers: Sequence[Signer]) -> bytes:
    """The signed note; raises NoteInvalid without signers."""
    text = checkpoint.text()
    return SignedNote(text, tuple(signer.sign(text) for signer in signers)).encode()


def unverified_checkpoint(note: bytes) -> Checkpoint:
    """What a note says, whoever wrote it: no signature is looked at. Raises NoteInvalid."""
    return Checkpoint.parse(SignedNote.parse(note).text)


def open_checkpoint(note: bytes, keys: Sequence[VerifierKey]) -> tuple[Checkpoint, SignedNote]:
    """The checkpoint of a note that one of these keys has signed under the checkpoint's origin as its name.

    The keys' own names do not count, and whether the origin is the expected one is for the caller to ask. Raises
    NoteInvalid, also if only one of several signatures of these keys does not verify.
    """
    signed = SignedNote.parse(note)
    checkpoint = Checkpoint.parse(signed.text)
    # All keys are asked, not the first that is found: a known key's false signature condemns the note.
    verified = [key for key in keys if signed.is_signed_by(key.named(checkpoint.origin))]
    if not verified:
        raise NoteInvalid("the checkpoint is signed by none of the known keys")
    return checkpoint, signed
