"""Witnesses' cosignatures, type cosignature/v1 (C2SP tlog-cosignature, Ed25519 signed message).

A cosignature says: of all trees of this origin that the cosigner has seen and found consistent, this was at that time the
largest. On its line a time of 8 bytes, big-endian, stands before the Ed25519 signature.
"""

from __future__ import annotations

import struct

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from broker.core.checkpoint.checkpoint import Checkpoint
from broker.core.checkpoint.note import (
    COSIGNATURE_V1,
    NoteInvalid,
    NoteSignature,
    SignedNote,
    VerifierKey,
    shown,
)

MAX_TIME_S = 2**63 - 1
_TIME = struct.Struct(">Q")
_ED25519_SIGNATURE_BYTES = 64


class Cosigner:
    """Cosigns checkpoints under a name with an Ed25519 seed (32 bytes), which serves no other cosigner or purpose."""

    def __init__(self, name: str, seed: bytes) -> None:
        """Raises NoteInvalid for a name that cannot stand in a note, ValueError for a seed of another length."""
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self._verifier_key = VerifierKey(name, COSIGNATURE_V1, self._key.public_key().public_bytes_raw())

    @property
    def verifier_key(self) -> VerifierKey:
        """What checks this cosigner's signatures."""
        return self._verifier_key

    def cosign(self, note_text: str, time_s: int) -> NoteSignature:
        """The cosignature of a checkpoint's text. time_s: seconds since 1970. Raises NoteInvalid for any other text."""
        Checkpoint.parse(note_text)
        if not 0 < time_s <= MAX_TIME_S:
            raise NoteInvalid("a cosignature's time lies between 1 and 2^63 - 1 seconds")
        key = self._verifier_key
        signature = self._key.sign(_message(note_text, time_s))
        return NoteSignature(key.name, key.key_hash, _TIME.pack(time_s) + signature)


def cosignature_time_s(note: SignedNote, key: VerifierKey) -> int | None:
    """When a key's holder cosigned the note (seconds since 1970), or None if it did not.

    Raises NoteInvalid for a cosignature of this key that does not verify, several of it, or a note that is no checkpoint.
    """
    if key.algorithm != COSIGNATURE_V1:
        raise NoteInvalid(f"the key {shown(key.name)} is for notes, not for cosignatures")
    timestamped = note.signature_of(key)
    if timestamped is None:
        return None
    if len(timestamped) != _TIME.size + _ED25519_SIGNATURE_BYTES:
        raise NoteInvalid(
            f"the cosignature of {shown(key.name)} has another length than a time and a signature"
        )
    (time_s,) = _TIME.unpack_from(timestamped)
    if not 0 < time_s <= MAX_TIME_S:
        raise NoteInvalid(f"the cosignature of {shown(key.name)} has no time between 1 and 2^63 - 1 seconds")
    Checkpoint.parse(note.text)
    key.verify(_message(note.text, time_s), timestamped[_TIME.size :])
    return int(time_s)


def _message(note_text: str, time_s: int) -> bytes:
    """The header and time lines, which keep it apart from every note's own text, then the whole text."""
    return f"cosignature/v1\ntime {time_s}\n{note_text}".encode()
