"""Where replay finds the revisions of the rulebook: an export, directories, beside whatever else holds some."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from broker.adapters.export.reader import ExportReader
from broker.core.rulebook.load import read_rulebook, revision_of
from broker.errors import RulebookRefused, StorageUnavailable
from broker.model.rulebook import Revision
from broker.ports.rulebook_store import RulebookReader

_MANIFEST = "manifest.yaml"


class NoRulebooks:
    """Implements RulebookReader and holds nothing."""

    async def get(self, revision_id: str) -> Revision | None:
        """See RulebookReader."""
        return None

    async def list(self) -> Sequence[str]:
        """See RulebookReader."""
        return []

    async def close(self) -> None:
        """See RulebookReader."""


class ExportedRulebooks(NoRulebooks):
    """The revisions of an export, by their ids only."""

    def __init__(self, export: ExportReader) -> None:
        self._export = export

    async def get(self, revision_id: str) -> Revision | None:
        """See RulebookReader."""
        files = await self._export.revision(revision_id)
        if files is None:
            return None
        try:
            revision = revision_of(files)
        except RulebookRefused as refused:
            raise ValueError(refused.findings[0]) from None
        if revision.id != revision_id:
            raise ValueError(f"the exported files are not those of {revision_id}; export them again")
        return revision


class DirectoryRulebooks:
    """A directory that is a rulebook or holds some, each in a directory of its own, in front of another reader."""

    def __init__(self, directory: Path, others: RulebookReader) -> None:
        self._directory = directory
        self._others = others
        self._found: dict[str, Revision] | None = None

    async def get(self, revision_id: str) -> Revision | None:
        """See RulebookReader. Raises StorageUnavailable if the directory holds none, or one that is not well-formed."""
        found = await self._read()
        return found[revision_id] if revision_id in found else await self._others.get(revision_id)

    async def list(self) -> Sequence[str]:
        """See RulebookReader."""
        found = await self._read()
        return [*found, *(each for each in await self._others.list() if each not in found)]

    async def close(self) -> None:
        """See RulebookReader."""
        await self._others.close()

    async def _read(self) -> dict[str, Revision]:
        if self._found is None:
            self._found = await asyncio.to_thread(_read_all, self._directory)
        return self._found


def _read_all(directory: Path) -> dict[str, Revision]:
    try:
        within = [path for path in sorted(directory.iterdir()) if (path / _MANIFEST).is_file()]
        paths = [directory] if (directory / _MANIFEST).is_file() else within
        revisions = [read_rulebook(path) for path in paths]
    except OSError as error:
        raise StorageUnavailable(f"{directory}: {error.strerror}; name a directory of rulebooks") from None
    except RulebookRefused as refused:
        raise StorageUnavailable(f"{directory}: {refused.findings[0]}") from None
    if not revisions:
        raise StorageUnavailable(
            f"{directory}: holds no rulebook; name one, or a directory of several, each with a {_MANIFEST}"
        )
    return {revision.id: revision for revision in revisions}
