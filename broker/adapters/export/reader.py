"""Reading an export directory as a ledger."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO

from broker.adapters.export import layout
from broker.adapters.export.lines import LinePiece, pieces_in
from broker.adapters.export.plain import open_plain, read_plain
from broker.adapters.sqlite.failure import reported
from broker.core.audit.pieces import Piece
from broker.core.audit.segments import Segment
from broker.core.audit.trust import read_keys
from broker.core.checkpoint.note import NoteInvalid, VerifierKey
from broker.core.merkle.tree import CompactTree
from broker.errors import StorageUnavailable
from broker.model.audit import Coverage
from broker.model.ledger import EncodedEntry, ReadEntries, ReadPoint, StoredCheckpoint
from broker.model.rulebook import revision_id as id_of

_CHECKPOINTS_AT_ONCE = 1_000
_CHECKPOINT_BYTES = 256 << 10
_KEYS_BYTES = 1 << 20
_REVISION_BYTES = 512 << 20


class ExportReader:
    """Implements the LedgerReader port on an export directory, and tells what else is in it; reads whole pieces."""

    def __init__(self, directory: Path, description: layout.Description) -> None:
        self._directory = directory
        self._description = description
        self._pieces: dict[str, list[LinePiece]] = {}

    @classmethod
    async def open(cls, directory: Path) -> ExportReader:
        """Raises StorageUnavailable unless it is an export of a version that this one reads."""
        return cls(directory, await asyncio.to_thread(layout.Description.read, directory))

    @property
    def exchange(self) -> str:
        """The exchange's name."""
        return self._description.exchange

    @property
    def tables_path(self) -> Path:
        """The SQLite file of the export."""
        return self._directory / layout.TABLES

    async def coverage(self) -> Sequence[Coverage]:
        """Which entries of which instances are here."""
        return coverage_of(self._description)

    async def keys(self) -> Sequence[VerifierKey]:
        """What `ledger.vkey` of the export lists; no ground for trust, since who writes an export writes this too."""
        path = self._directory / layout.KEYS
        with reported(path):
            content = await asyncio.to_thread(read_plain, path, _KEYS_BYTES)
        try:
            text = content.decode(errors="replace")
            return read_keys(text) if text.strip() else ()
        except NoteInvalid as error:
            raise StorageUnavailable(f"{path}: {error}; export again") from error

    async def revision(self, revision_id: str) -> Mapping[str, bytes] | None:
        """A rulebook revision's files, checked against its id, or None; raises StorageUnavailable if they differ from it."""
        if revision_id not in self._description.revisions:
            return None
        directory = layout.revision_directory(self._directory, revision_id)
        files = await asyncio.to_thread(_read_tree, directory)
        if id_of(files) != revision_id:
            raise StorageUnavailable(f"{directory} is not what its name says; export again")
        return files

    async def instances(self) -> Sequence[str]:
        """See LedgerReader."""
        return sorted(self._description.instances)

    async def read(self, instance: str, point: ReadPoint) -> AsyncIterator[ReadEntries]:
        """See LedgerReader; `store` counts lines."""
        first = self._instance(instance).begin
        known = self._pieces.get(instance)
        pieces = await asyncio.to_thread(list, self.pieces(instance)) if known is None else known
        begin = first + point.store
        for number in range(max(0, bisect_right(pieces, begin, key=_begin) - 1), len(pieces)):
            piece = pieces[number]
            lines = await asyncio.to_thread(piece.lines) if piece.begin + piece.count > begin else []
            entries = tuple(EncodedEntry(*line) for line in lines[max(0, begin - piece.begin) :])
            end = piece.begin + len(lines)
            if entries:
                yield ReadEntries(entries, ReadPoint(end - first, 0, end))

    async def checkpoints(self, instance: str, place: int = 0) -> AsyncIterator[StoredCheckpoint]:
        """See LedgerReader; places count lines."""
        self._instance(instance)
        path = layout.checkpoints_of(self._directory, instance)
        with reported(path):
            file = await asyncio.to_thread(open_plain, path)
        number = 0
        with file:
            while lines := await asyncio.to_thread(_take_lines, file, path):
                for line in lines:
                    number += 1
                    if number > place:
                        yield replace(layout.read_checkpoint(line), next_place=number)

    async def close(self) -> None:
        """See LedgerReader."""

    def base(self, instance: str) -> CompactTree:
        """See PieceReader."""
        return self._instance(instance).base.copy()

    def tail(self, instance: str) -> Segment | None:
        """See PieceReader."""
        return self._instance(instance).tail

    def is_cut(self, instance: str) -> bool:
        """See PieceReader."""
        return self._instance(instance).cut

    def count(self, instance: str) -> int:
        """See PieceReader."""
        part = self._instance(instance)
        return part.end - part.begin

    def pieces(self, instance: str) -> Iterator[Piece]:
        """See PieceReader; where they are is found once, and remembered."""
        known = self._pieces.get(instance)
        if known is not None:
            yield from known
            return
        found: list[LinePiece] = []
        leaves, openings = (of(self._directory, instance) for of in (layout.leaves_of, layout.openings_of))
        for piece in pieces_in(leaves, openings, instance, self._instance(instance).begin):
            found.append(piece)
            yield piece
        self._pieces[instance] = found

    def _instance(self, name: str) -> layout.ExportedInstance:
        part = self._description.instances.get(name)
        if part is None:
            raise StorageUnavailable(f"{self._directory} holds no instance '{name}'; name another")
        return part


def coverage_of(description: layout.Description) -> list[Coverage]:
    """Which entries an export holds."""
    return [
        Coverage(name, part.origin, part.begin, part.end, part.first_ms, part.last_ms)
        for name, part in sorted(description.instances.items())
    ]


def _begin(piece: Piece) -> int:
    return piece.begin


def _read_tree(directory: Path) -> dict[str, bytes]:
    with reported(directory):
        if directory.is_symlink():
            raise StorageUnavailable(f"{directory} leads elsewhere; export again")
        paths = sorted(path for path in directory.rglob("*") if path.is_file() and not path.is_symlink())
        if sum(path.lstat().st_size for path in paths) > _REVISION_BYTES:
            raise StorageUnavailable(f"{directory} holds more than any rulebook; export again")
        return {path.relative_to(directory).as_posix(): read_plain(path, _REVISION_BYTES) for path in paths}


def _take_lines(file: IO[bytes], path: Path) -> list[bytes]:
    with reported(path):
        lines: list[bytes] = []
        while len(lines) < _CHECKPOINTS_AT_ONCE and (line := file.readline(_CHECKPOINT_BYTES + 1)):
            if len(line) > _CHECKPOINT_BYTES:
                raise StorageUnavailable(
                    f"{path}: a line has more than {_CHECKPOINT_BYTES} bytes, which no checkpoint has; export again"
                )
            lines.append(line.rstrip(b"\n"))
        return lines
