"""Keeps revisions for good, each with a signed manifest."""

from __future__ import annotations

from broker.core.checkpoint.note import NoteInvalid, Signer
from broker.core.in_force import InForce
from broker.core.regime import Regime
from broker.core.rulebook.manifest import Manifest, sign_manifest
from broker.core.rulebook.proposals import Pair
from broker.core.rulebook.submission import Submission
from broker.errors import EntenteError, Reason, StorageUnavailable
from broker.ports.clock import Clock
from broker.ports.rulebook_store import RulebookStore


class Keeper:
    """Stores; signer: under `manifest_origin`, with the key that signs the ledger."""

    def __init__(self, store: RulebookStore, signer: Signer, in_force: InForce[Regime], clock: Clock) -> None:
        self._store = store
        self._signer = signer
        self._in_force = in_force
        self._clock = clock

    async def keep(self, submission: Submission, author: Pair, message: str) -> None:
        """The proposed revision and its manifest; raises EntenteError STORAGE_UNAVAILABLE, REQUEST_INVALID."""
        proposed = submission.proposed
        note = self._note(proposed.id, submission.present.id, author, message, proposed.time_dependent)
        try:
            await self._store.put(proposed)
            await self._store.put_manifest(proposed.id, note)
        except StorageUnavailable:
            raise EntenteError(Reason.STORAGE_UNAVAILABLE) from None

    async def keep_first(self) -> None:
        """The manifest of the revision in force, which is stored, and which nobody proposed. Raises StorageUnavailable."""
        regime = self._in_force.present.regime
        note = self._note(regime.rules.revision, None, None, "", regime.time_dependent)
        await self._store.put_manifest(regime.rules.revision, note)

    def _note(
        self, revision_id: str, parent: str | None, author: Pair | None, message: str, time_dependent: bool
    ) -> bytes:
        manifest = Manifest(
            revision=revision_id,
            parent=parent,
            author=author,
            time_ms=self._clock.now_ms(),
            message=message,
            time_dependent=time_dependent,
            # All instances examine by the version that decides.
            engine=self._in_force.present.regime.rules.engine,
        )
        try:
            return sign_manifest(manifest, self._signer)
        except NoteInvalid:
            raise EntenteError(Reason.REQUEST_INVALID, "its message cannot be signed") from None
