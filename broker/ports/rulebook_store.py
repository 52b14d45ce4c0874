"""Revisions of the rulebook, kept for good."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from broker.model.rulebook import Revision


class RulebookReader(Protocol):
    """Reading needs no more than read access to the store. Methods raise StorageUnavailable."""

    async def get(self, revision_id: str) -> Revision | None:
        """The revision, verified against its id, or None. Raises ValueError if what is stored does not match the id."""

    async def list(self) -> Sequence[str]:
        """Ids in the order in which they were first stored."""

    async def close(self) -> None:
        """Release all resources; idempotent."""


class RulebookStore(RulebookReader, Protocol):
    """Content-addressed: what is stored under an id never changes."""

    async def put(self, revision: Revision) -> None:
        """Store it, durable on return; storing it again changes nothing. Raises ValueError if the id is not its hash."""

    async def put_manifest(self, revision_id: str, note: bytes) -> None:
        """Keep a signed manifest (C2SP signed note) of a revision, durable on return; the same one again changes nothing."""

    async def manifests(self, revision_id: str) -> Sequence[bytes]:
        """The manifests of a revision in the order in which they were first stored; none of a revision that is not there."""
