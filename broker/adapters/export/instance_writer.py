"""Copying one instance's ledger into an export: the entries of a time, and what proves them part of the whole."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import IO

from broker.adapters.export import layout
from broker.adapters.sqlite.failure import reported
from broker.core.audit.pieces import base_of, first_index, size_of
from broker.core.audit.segments import Segment, SegmentBuilder
from broker.core.ledger.leaf import EntryInvalid, read_leaf
from broker.core.ledger.signing import origin_of
from broker.core.merkle.hashing import leaf_hash
from broker.core.merkle.tree import CompactTree
from broker.errors import LedgerRefused
from broker.model.audit import Progress, ProgressCallback
from broker.model.ledger import EncodedEntry, ReadEntries, ReadPoint
from broker.ports.ledger_log import LedgerReader


class InstanceWriter:
    """Times may step backwards, so the last entry of the range is known at the end only: what follows it is cut off then."""

    def __init__(self, directory: Path, instance: str, since_ms: int | None, until_ms: int | None) -> None:
        self.read = 0
        self._directory = directory
        self._instance = instance
        self._since_ms = since_ms
        self._until_ms = until_ms
        self._tree: CompactTree | None = None
        self._base: CompactTree | None = None
        self._first_ms: int | None = None
        self._last_ms: int | None = None
        self._skip = 0
        self._newest = 0
        self._end = 0
        self._end_bytes = (0, 0)
        self._beyond: SegmentBuilder | None = None
        self._total = 0

    async def copy(
        self, reader: LedgerReader, exchange: str, progress: ProgressCallback | None
    ) -> layout.ExportedInstance | None:
        """Write the three files; None, and no files, if no entry lies in the range."""
        paths = [of(self._directory, self._instance) for of in (layout.leaves_of, layout.openings_of)]
        with reported(self._directory):
            leaves, openings = (_create(path) for path in paths)
        with leaves, openings:
            async for read in reader.read(self._instance, ReadPoint()):
                if self._tree is None and read.entries:
                    self._tree = await self._begin(reader, read.entries[0])
                await asyncio.to_thread(self._take, read, leaves, openings)
                if progress is not None:
                    progress(Progress("copying", self.read))
            await asyncio.to_thread(self._cut, leaves, openings)
        base = self._base
        if base is None or self._end == base.size:
            for path in paths:
                path.unlink()
            return None
        tail = await self._copy_checkpoints(reader, base.size)
        cut, origin = self._end < self._total, origin_of(exchange, self._instance)
        times = (self._first_ms, self._last_ms)
        return layout.ExportedInstance(origin, base.size, self._end, base, tail, cut, *times)

    async def _begin(self, reader: LedgerReader, first: EncodedEntry) -> CompactTree:
        """The tree before the first entry; and how far checkpoints lead beyond whatever the range will be."""
        base = await base_of(reader, self._instance, first)
        self._skip = base.size - first_index(first)
        async for stored in reader.checkpoints(self._instance):
            self._newest = max(self._newest, size_of(stored))
        return base

    def _take(self, read: ReadEntries, leaves: IO[bytes], openings: IO[bytes]) -> None:
        tree = self._tree
        if tree is None:
            return
        with reported(self._directory):
            for entry in read.entries[self._skip :]:
                hashed, time_ms = leaf_hash(entry.leaf), self._time(entry, tree.size)
                if self._base is None and (self._since_ms is None or time_ms >= self._since_ms):
                    self._base, self._end, self._first_ms = tree.copy(), tree.size, time_ms
                    self._beyond = SegmentBuilder(tree.size)
                tree.append(hashed)
                self._total = tree.size
                if self._beyond is None:
                    continue
                leaves.write(entry.leaf + b"\n")
                openings.write(entry.openings + b"\n")
                if tree.size <= self._newest:
                    self._beyond.append(hashed)
                if self._until_ms is None or time_ms <= self._until_ms:
                    self._last_ms = time_ms
                    self._end, self._end_bytes = tree.size, (leaves.tell(), openings.tell())
                    self._beyond = SegmentBuilder(tree.size)
        self._skip = max(0, self._skip - len(read.entries))
        self.read += len(read.entries)

    def _time(self, entry: EncodedEntry, index: int) -> int:
        """The entry's time; entries must be consecutive, or ranges would mean nothing. Raises LedgerRefused."""
        if b"\n" in entry.leaf or b"\n" in entry.openings:
            raise self._refused(index, "it is not in its one form")
        try:
            leaf = read_leaf(entry.leaf)
        except EntryInvalid as error:
            raise self._refused(index, str(error)) from error
        if (leaf.instance, leaf.index) != (self._instance, index):
            raise self._refused(index, f"entry {leaf.index} of {leaf.instance} stands there")
        return leaf.time_ms

    def _cut(self, leaves: IO[bytes], openings: IO[bytes]) -> None:
        with reported(self._directory):
            for file, size in zip((leaves, openings), self._end_bytes, strict=True):
                file.truncate(size)
                file.flush()
                os.fsync(file.fileno())

    async def _copy_checkpoints(self, reader: LedgerReader, begin: int) -> Segment | None:
        """Those that the export can be checked against: up to its end, and the newest of all if its tail leads there."""
        tail = None if self._beyond is None else self._beyond.segment()
        path = layout.checkpoints_of(self._directory, self._instance)
        with reported(path), _create(path) as file:
            async for stored in reader.checkpoints(self._instance):
                size = size_of(stored)
                if begin <= size <= self._end or (tail is not None and size == tail.end):
                    file.write(layout.encode_checkpoint(stored) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        return tail if tail is not None and tail.end > self._end else None

    def _refused(self, index: int, what: str) -> LedgerRefused:
        return LedgerRefused(
            (
                f"instance {self._instance}, entry {index}: {what}; verify the ledger where it is, or export a copy",
            )
        )


def create_private(path: Path, content: bytes) -> None:
    """Create a file for its owner only, durable; O_EXCL so that nothing is followed or replaced."""
    with _create(path) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def make_directory(path: Path) -> None:
    """A directory for its owner only, if it is absent."""
    path.mkdir(mode=0o700, exist_ok=True)


def _create(path: Path) -> IO[bytes]:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    return os.fdopen(descriptor, "wb")
