"""Examining one piece of a ledger, in this process or another: hashes, commitments, accounting, and the index's rows."""

from __future__ import annotations

from dataclasses import dataclass

from broker.core.audit.chunk import RESTORE, Chunk
from broker.core.audit.collect import Collector, Memory
from broker.core.audit.opening import Cache, Opened, Opener
from broker.core.audit.pieces import BLOCK, Piece
from broker.core.audit.rows import Rows
from broker.core.audit.segments import segment_of
from broker.core.ledger.leaf import EntryInvalid
from broker.core.merkle.hashing import leaf_hash, root_of
from broker.ports.audit_index import AuditTables


@dataclass(frozen=True, slots=True)
class Task:
    """A piece to examine. marks: tree sizes, in order, at which somebody wants the root. tables: to compare, or None."""

    piece: Piece
    marks: tuple[int, ...] = ()
    tables: AuditTables | None = None


def examine(task: Task) -> Chunk:
    """What the piece comes to. Raises StorageUnavailable."""
    entries = task.piece.lines()
    chunk = Chunk(task.piece.instance, task.piece.begin, len(entries))
    rows = Rows() if task.tables is not None else None
    hashes = _open_all(chunk, entries, rows)
    _fill_tree(chunk, hashes, task.marks)
    if task.tables is not None and rows is not None and not chunk.misplaced:
        end = chunk.begin + chunk.count
        compared = task.tables.differences(chunk.instance, chunk.begin, end, rows.tables)
        chunk.rows = compared.rows
        for table, index in compared.differences:
            what = f"table '{table}' of the SQLite file is not what the entries say"
            chunk.fault(index, what, "make the file again from the entries")
    return chunk


_KINDS_WITH_KEYS = ("configuration", "key_rotated")
_cache, _memory = Cache(), Memory()
"""One of each for each process: pieces of one ledger share much."""


def _open_all(chunk: Chunk, entries: list[tuple[bytes, bytes]], rows: Rows | None) -> list[bytes]:
    collector, hashes = Collector(chunk, _memory), list[bytes]()
    instance, collect, index = chunk.instance, collector.add, chunk.begin
    places, open_next = _Places(chunk), Opener(instance, index, _cache).open
    for leaf, openings in entries:
        try:
            entry = open_next(leaf, openings)
            if entry.instance != instance:
                raise EntryInvalid(f"an entry of instance {entry.instance[:32]} stands here")
        except EntryInvalid as error:
            hashes.append(leaf_hash(leaf))
            _note_fault(chunk, index, str(error), hashes[-1], rows)
            index += 1
            continue
        hashes.append(entry.leaf_hash)
        places.note(entry, index)
        if entry.taken is not None:
            collect(entry)
        else:
            _note_erased(chunk, entry, index)
        if rows is not None:
            rows.add(entry)
        index += 1
    collector.finish()
    return hashes


class _Places:
    """Whether entries stand where they say, and under which epochs."""

    def __init__(self, chunk: Chunk) -> None:
        self._chunk = chunk
        self._shift = 0
        self._epoch = -1

    def note(self, entry: Opened, index: int) -> None:
        """The next entry."""
        if entry.index - index != self._shift:
            self._shift = entry.index - index
            self._chunk.misplaced.append((index, self._shift))
        if entry.epoch != self._epoch:
            self._epoch = entry.epoch
            self._chunk.epochs.append((index, entry.epoch))


def _note_fault(chunk: Chunk, index: int, what: str, hashed: bytes, rows: Rows | None) -> None:
    chunk.fault(index, what, RESTORE)
    chunk.erase(index)
    if rows is not None:
        rows.add_unreadable(index, hashed)


def _note_erased(chunk: Chunk, entry: Opened, index: int) -> None:
    chunk.erase(index)
    if entry.kind in _KINDS_WITH_KEYS:
        chunk.keys.append((index, "erased", ()))


def _fill_tree(chunk: Chunk, hashes: list[bytes], marks: tuple[int, ...]) -> None:
    begin, end = chunk.begin, chunk.begin + len(hashes)
    for first in range(-(-begin // BLOCK) * BLOCK, end - BLOCK + 1, BLOCK):
        chunk.blocks[first // BLOCK] = root_of(hashes[first - begin : first - begin + BLOCK])

    def subtree(at: int, size: int) -> bytes:
        if size < BLOCK:
            return root_of(hashes[at - begin : at - begin + size])
        return root_of([chunk.blocks[number] for number in range(at // BLOCK, (at + size) // BLOCK)])

    low = begin
    for mark in (*marks, end):
        if low < mark <= end:
            chunk.segments.append(segment_of(low, mark, subtree))
            low = mark
