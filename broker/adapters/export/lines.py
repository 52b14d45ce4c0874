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

_READ_BYTES = 1 << 20

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
    """Walks along a file's lines and tells where they are, without keeping them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = open_plain(path)
        self._block = b""
        self._at = 0
        self._position = 0

    def take(self, most: int, most_bytes: int) -> tuple[int, Stretch]:
        """How many of the next lines, at most so many, and their place; they stop after about `most_bytes`."""
        begin, count = self._position, 0
        while count < most and self._position - begin < most_bytes:
            end = self._block.find(b"\n", self._at)
            if end < 0:
                if not self._fill():
                    break
                continue
            self._position += end + 1 - self._at
            self._at = end + 1
            count += 1
        return count, Stretch(self._path, begin, self._position - begin)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _fill(self) -> bool:
        """Read on; at the end what has no line end counts as a line."""
        more = self._file.read(_READ_BYTES)
        rest = self._block[self._at :]
        if len(rest) > LINE_BYTES:
            raise StorageUnavailable(
                f"{self._path}: a line has more than {LINE_BYTES} bytes, which no entry has; export again"
            )
        if not more and rest:
            more = b"\n"
            self._position -= 1  # that line end is not in the file
        self._block, self._at = rest + more, 0
        return bool(more)


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
                _, opened = beside.take(count, 1 << 62)
            yield LinePiece(instance, begin, count, first, opened)
            begin += count


def _next(along: Liner, begin: int) -> tuple[Stretch, int]:
    """Whole blocks of lines, as many as make a piece."""
    count, stretch = along.take(BLOCK - begin % BLOCK, 1 << 62)
    total, size = count, stretch.size
    while count and total < PIECE_ENTRIES and size < PIECE_BYTES // 4:
        count, more = along.take(BLOCK, 1 << 62)
        total, size = total + count, size + more.size
    return Stretch(stretch.path, stretch.begin, size), total
