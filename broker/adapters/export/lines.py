"""Reading the line files of an export: in pieces whose places are known, so that any process can read any of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from broker.adapters.export.plain import open_plain
from broker.adapters.sqlite.failure import reported
from broker.core.audit.pieces import BLOCK, PIECE_BYTES, PIECE_ENTRIES
from broker.errors import StorageUnavailable

_READ_BYTES = 256 << 10

LINE_BYTES = 32 << 20
"""More than any entry takes; a line without end would else be read into memory."""

MISSING = b"?"
"""Stands for openings whose line is not there: unlike an empty line nothing that could be taken for erased ones."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Some consecutive lines of one file: where they begin, and how many bytes they take, line ends included."""

    path: Path
    begin: int
    size: int

    def lines(self) -> list[bytes]:
        """The lines without their ends. Raises StorageUnavailable."""
        with reported(self.path), open_plain(self.path) as file:
            file.seek(self.begin)
            content = file.read(self.size)
        lines = content.split(b"\n")
        if not lines[-1]:
            lines.pop()
        return lines


@dataclass(frozen=True, slots=True)
class LinePiece:
    """Implements broker.core.audit.pieces.Piece on an export's files."""

    instance: str
    begin: int
    count: int
    leaves: Stretch
    openings: Stretch

    def lines(self) -> list[tuple[bytes, bytes]]:
        """See Piece."""
        leaves, openings = self.leaves.lines(), self.openings.lines()
        openings += [MISSING] * (len(leaves) - len(openings))
        return list(zip(leaves, openings, strict=False))


class Liner:
    """Walks along a file's lines and tells where they are, without keeping them or looking at each."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = open_plain(path)
        self._block = bytearray(_READ_BYTES)
        self._at = self._end = 0
        self._position = 0
        self._unfinished = 0

    def take(self, most: int) -> tuple[int, Stretch]:
        """How many of the next lines, at most so many, and their place."""
        begin, count = self._position, 0
        while count < most:
            if self._at == self._end and not self._fill():
                count += self._unfinished > 0  # at the file's end what has no line end counts as a line
                self._unfinished = 0
                break
            count += self._pass(most - count)
        return count, Stretch(self._path, begin, self._position - begin)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _fill(self) -> bool:
        """Read on, in place of what was read before."""
        self._at, self._end = 0, self._file.readinto(self._block)
        return self._end > 0

    def _pass(self, most: int) -> int:
        """Pass the lines that end in what was read, at most so many: how many. Raises StorageUnavailable."""
        find, end = self._block.find, self._end
        begin = at = self._at
        count = 0
        while count < most and (found := find(b"\n", at, end)) >= 0:
            at = found + 1
            count += 1
        if count < most:
            self._unfinished = end - at + (0 if count else self._unfinished)
            at = end
            if self._unfinished > LINE_BYTES:
                raise StorageUnavailable(
                    f"{self._path}: a line has more than {LINE_BYTES} bytes, which no entry has; export again"
                )
        else:
            self._unfinished = 0
        self._at = at
        self._position += at - begin
        return count


def pieces_in(leaves: Path, openings: Path, instance: str, begin: int) -> Iterator[LinePiece]:
    """All lines of the two files, in pieces that begin at multiples of BLOCK but for the first."""
    with ExitStack() as opened_files:
        with reported(leaves):
            along = Liner(leaves)
            opened_files.callback(along.close)
        with reported(openings):
            beside = Liner(openings)
            opened_files.callback(beside.close)
        while True:
            with reported(leaves):
                first, count = _next(along, begin)
            if not count:
                return
            with reported(openings):
                _, opened = beside.take(count)
            yield LinePiece(instance, begin, count, first, opened)
            begin += count


def _next(along: Liner, begin: int) -> tuple[Stretch, int]:
    """Whole blocks of lines, as many as make a piece."""
    count, stretch = along.take(BLOCK - begin % BLOCK)
    total, size = count, stretch.size
    while count and total < PIECE_ENTRIES and size < PIECE_BYTES // 4:
        count, more = along.take(BLOCK)
        total, size = total + count, size + more.size
    return Stretch(stretch.path, stretch.begin, size), total
