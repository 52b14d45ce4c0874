"""Writing an export directory."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from broker.adapters.export import layout
from broker.adapters.export.index import SqliteAuditIndex
from broker.adapters.export.index_file import finish
from broker.adapters.export.instance_writer import InstanceWriter, create_private, make_directory
from broker.adapters.export.reader import ExportReader, coverage_of
from broker.adapters.sqlite.failure import reported
from broker.core.checkpoint.note import VerifierKey
from broker.model.audit import Coverage, Progress, ProgressCallback
from broker.ports.ledger_log import LedgerReader
from broker.ports.rulebook_store import RulebookReader


class ExportRefused(Exception):
    """Nothing was exported; one line: what is in the way, and what to do."""


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """What to export, and where to: a directory that is absent or empty.

    since_ms, until_ms: entries' own times, milliseconds since 1970; of each instance the contiguous range from the first
    entry at or after `since_ms` to the last at or before `until_ms`. keys: for the export's `ledger.vkey`.
    """

    out: Path
    exchange: str
    keys: Sequence[VerifierKey] = ()
    since_ms: int | None = None
    until_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written. missing: rulebook revisions that entries name and the store does not hold."""

    coverage: tuple[Coverage, ...]
    revisions: tuple[str, ...]
    missing: tuple[str, ...]


async def write_export(
    request: ExportRequest,
    reader: LedgerReader,
    revisions: RulebookReader,
    progress: ProgressCallback | None = None,
) -> Exported:
    """Write the directory whole or not at all, for its owner's eyes only.

    Raises ExportRefused if the directory is occupied or nothing lies in the range, LedgerRefused if the entries are not
    consecutive, StorageUnavailable.
    """
    target = request.out.absolute()
    with reported(target):
        await asyncio.to_thread(_refuse_occupied, target)
    async with _built_beside(target) as building:
        work = _Export(building, request, progress)
        await work.copy_entries(reader)
        await work.make_tables()
        await work.copy_revisions(revisions)
        await asyncio.to_thread(work.describe)
    description = work.description
    return Exported(tuple(coverage_of(description)), description.revisions, description.missing)


@dataclass(slots=True)
class _Export:
    """An export in the making."""

    directory: Path
    request: ExportRequest
    progress: ProgressCallback | None
    description: layout.Description = field(init=False)

    def __post_init__(self) -> None:
        request = self.request
        self.description = layout.Description(request.exchange, request.since_ms, request.until_ms)

    async def copy_entries(self, reader: LedgerReader) -> None:
        """Leaves, openings and checkpoints of all instances that have entries in the range."""
        await asyncio.to_thread(self._lay_out)
        done = 0
        for instance in await reader.instances():
            writer = InstanceWriter(self.directory, instance, self.request.since_ms, self.request.until_ms)
            part = await writer.copy(reader, self.request.exchange, self._tell(done))
            if part is not None:
                self.description.instances[instance] = part
            done += writer.read
        if not self.description.instances:
            raise ExportRefused("the ledger has no entries in that time; choose another --since or --until")
        await asyncio.to_thread(self._write_description)

    async def make_tables(self) -> None:
        """The SQLite file, from what was just written."""
        exported = await ExportReader.open(self.directory)
        path = self.directory / layout.TABLES
        index = await SqliteAuditIndex.open(path, self.request.exchange)
        try:
            await index.update(exported, self.progress)
            found = await index.revisions()
        finally:
            await index.close()
        await asyncio.to_thread(finish, path)
        self.description = replace(self.description, revisions=tuple(found))

    async def copy_revisions(self, store: RulebookReader) -> None:
        """The files of each revision that an entry names."""
        found, missing = [], []
        for revision_id in self.description.revisions:
            revision = await store.get(revision_id)
            if revision is None:
                missing.append(revision_id)
                continue
            directory = layout.revision_directory(self.directory, revision_id)
            with reported(directory):
                await asyncio.to_thread(_write_tree, directory, revision.files)
            found.append(revision_id)
        self.description = replace(self.description, revisions=tuple(found), missing=tuple(missing))

    def describe(self) -> None:
        """The description, last and in its final form."""
        self._write_description()
        with reported(self.directory):
            for path in (self.directory, *(each for each in self.directory.rglob("*") if each.is_dir())):
                _sync_directory(path)

    def _lay_out(self) -> None:
        with reported(self.directory):
            for name in ("leaves", "openings", "checkpoints", "revisions"):
                make_directory(self.directory / name)
            keys = "".join(f"{key.text()}\n" for key in self.request.keys)
            create_private(self.directory / layout.KEYS, keys.encode())

    def _write_description(self) -> None:
        path = self.directory / layout.DESCRIPTION
        with reported(path):
            path.unlink(missing_ok=True)
            create_private(path, self.description.encode())

    def _tell(self, before: int) -> ProgressCallback | None:
        progress = self.progress
        if progress is None:
            return None
        return lambda step: progress(Progress(step.stage, before + step.done, step.total))


def _refuse_occupied(target: Path) -> None:
    if target.is_symlink() or (target.exists() and (not target.is_dir() or any(target.iterdir()))):
        raise ExportRefused(f"{target}: exists and is not an empty directory; choose another, or remove it")


@asynccontextmanager
async def _built_beside(target: Path) -> AsyncIterator[Path]:
    """A private directory that takes the target's place if the block succeeds, else disappears."""
    building = await asyncio.to_thread(_make_beside, target)
    try:
        yield building
        await asyncio.to_thread(_put_in_place, building, target)
    except BaseException:
        await asyncio.to_thread(shutil.rmtree, building, ignore_errors=True)
        raise


def _make_beside(target: Path) -> Path:
    with reported(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".unfinished", dir=target.parent))


def _put_in_place(building: Path, target: Path) -> None:
    with reported(target):
        # rename(2) replaces an empty directory and refuses any other, so nothing is ever overwritten.
        building.rename(target)
        _sync_directory(target.parent)


def _write_tree(directory: Path, files: Mapping[str, bytes]) -> None:
    """A revision's files; their paths are an administrator's, and lead nowhere else."""
    make_directory(directory)
    for name, content in files.items():
        path = PurePosixPath(name)
        if path.is_absolute() or not path.parts or ".." in path.parts:
            raise ExportRefused(f"a rulebook revision holds the path '{name[:80]}'; export from another copy")
        parent = directory.joinpath(*path.parent.parts)
        for step in (*reversed(parent.relative_to(directory).parents), parent.relative_to(directory)):
            make_directory(directory / step)
        create_private(directory.joinpath(*path.parts), content)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
