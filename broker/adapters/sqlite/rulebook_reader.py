"""Reading `rulebooks.db` beside the broker, with read access to the files and nothing else."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TypeVar

from broker.adapters.sqlite.failure import reported
from broker.adapters.sqlite.files import connect_beside
from broker.adapters.sqlite.rulebook_store import list_revisions, read_revision
from broker.model.rulebook import Revision

T = TypeVar("T")


class SqliteRulebookReader:
    """Implements the RulebookReader port. Each look has a connection of its own, so nothing stays open."""

    def __init__(self, path: Path) -> None:
        self._path = path.absolute()

    async def get(self, revision_id: str) -> Revision | None:
        """See RulebookReader."""
        return await self._look(partial(read_revision, wanted=revision_id))

    async def list(self) -> Sequence[str]:
        """See RulebookReader."""
        return await self._look(list_revisions)

    async def close(self) -> None:
        """See RulebookReader."""

    async def _look(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await asyncio.to_thread(self._run, work)

    def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with reported(self._path), closing(connect_beside(self._path)) as connection:
            return work(connection)
