"""A witness's decision on each request, in the order that C2SP tlog-witness gives, and its cosignature.

A cosignature says that no larger tree of this log was seen, so what it rests on is durable before it is made.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from broker.core.checkpoint.checkpoint import open_checkpoint, unverified_checkpoint
from broker.core.checkpoint.cosignature import Cosigner
from broker.core.checkpoint.note import NoteInvalid, SignedNote, VerifierKey
from broker.core.merkle.proofs import ProofInvalid
from broker.core.witness.judge import RootConflict, judge
from broker.core.witness.request import AddCheckpoint
from broker.errors import StorageUnavailable
from broker.ports.clock import Clock
from broker.ports.witness_store import Misfit, WitnessStore

log = logging.getLogger(__name__)


class OriginUnknown(Exception):
    """The witness is not configured for a log of this origin."""


class SignatureUnknown(Exception):
    """The checkpoint is not signed by a key that the witness trusts for its origin."""


@dataclass(frozen=True, slots=True)
class TrustedLog:
    """A log: its origin, and its keys, whose names do not count (a checkpoint is signed under its origin)."""

    origin: str
    keys: tuple[VerifierKey, ...]


class CosigningWitness:
    """Decides on requests, from any threads; of one origin, one after another."""

    def __init__(
        self, cosigner: Cosigner, logs: Sequence[TrustedLog], store: WitnessStore, clock: Clock
    ) -> None:
        self._cosigner = cosigner
        self._logs = {each.origin: each for each in logs}
        self._locks = {each.origin: threading.Lock() for each in logs}
        self._store = store
        self._clock = clock

    def check_held(self) -> None:
        """Before the first request: what is held must be what this witness wrote.

        Raises StorageUnavailable for a checkpoint that is damaged, of another origin or not signed by a configured key.
        """
        for each in self._logs.values():
            note = self._store.held(each.origin)
            try:
                origin = None if note is None else open_checkpoint(note, each.keys)[0].origin
            except NoteInvalid as error:
                raise StorageUnavailable(f"what is held of {each.origin}: {error}; {_REPAIR}") from None
            if origin not in (None, each.origin):
                raise StorageUnavailable(f"what is held of {each.origin} is of another origin; {_REPAIR}")

    def add(self, body: bytes) -> bytes:
        """Answer an add-checkpoint request: the cosignature's line, with its newline.

        Raises RequestInvalid, OriginUnknown, SignatureUnknown, WitnessConflict, RootConflict, ProofInvalid,
        StorageUnavailable.
        """
        # 1. The request's form. 2. A log that is known, and its signature; only then anything is read or written.
        request = AddCheckpoint.parse(body)
        trusted = self._logs.get(request.checkpoint.origin)
        if trusted is None:
            raise OriginUnknown
        note = _signed_by(request.note, trusted)
        with self._locks[trusted.origin]:
            # 3. From here to the end of `keep` nothing else may happen to this origin, or its size could go back.
            held_note = self._store.held(trusted.origin)
            held = None if held_note is None else unverified_checkpoint(held_note)
            try:
                judge(held, request.old_size, request.proof, request.checkpoint)
            except (RootConflict, ProofInvalid) as error:
                self._record(
                    "fork" if isinstance(error, RootConflict) else "unproven", request, note, held_note
                )
                raise
            if held is None or held.size < request.checkpoint.size:
                self._store.keep(trusted.origin, note.encode())
            signature = self._cosigner.cosign(note.text, self._clock.now_ms() // 1000)
        return f"{signature.line()}\n".encode()

    def statement(self, origin: str) -> bytes | None:
        """What is held of a log, with a cosignature of this moment, as a signed note; None if nothing is.

        Another process may serve meanwhile. Raises OriginUnknown, StorageUnavailable.
        """
        if origin not in self._logs:
            raise OriginUnknown
        while (note := self._store.held(origin)) is not None:
            time_s = self._clock.now_ms() // 1000
            # A cosignature says that at its time nothing larger was held: so the time lies between two equal answers.
            if note == self._store.held(origin):
                signed = SignedNote.parse(note)
                signature = self._cosigner.cosign(signed.text, time_s)
                return SignedNote(signed.text, (*signed.signatures, signature)).encode()
        return None

    def _record(
        self, kind: Literal["fork", "unproven"], request: AddCheckpoint, note: SignedNote, held: bytes | None
    ) -> None:
        if held is None:  # only a first contact with a proof, which there is nothing to compare with
            return
        origin, size = request.checkpoint.origin, request.checkpoint.size
        misfit = Misfit(
            kind, origin, self._clock.now_ms(), held, note.encode(), request.old_size, request.proof
        )
        try:
            if self._store.record(misfit):
                log.error("%s: the checkpoint of size %d does not fit the one held (%s)", origin, size, kind)
        except StorageUnavailable as error:
            # It is refused all the same.
            log.error("%s: a checkpoint of size %d does not fit (%s): %s", origin, size, kind, error)


_REPAIR = "restore the file, or configure the key that signed it; without it a fork could not be seen"


def _signed_by(note: bytes, trusted: TrustedLog) -> SignedNote:
    """The note with the signatures of trusted keys alone: others are ignored, and take no room."""
    try:
        _, signed = open_checkpoint(note, trusted.keys)
    except NoteInvalid:
        raise SignatureUnknown from None
    known = {(trusted.origin, key.named(trusted.origin).key_hash) for key in trusted.keys}
    kept = tuple(each for each in signed.signatures if (each.name, each.key_hash) in known)
    return SignedNote(signed.text, kept)
