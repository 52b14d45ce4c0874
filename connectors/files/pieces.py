"""Reads a file's records, one a file or one a line, in bounded memory."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from connectors.files.disk import FileState, open_plain
from connectors.files.settings import Form
from connectors.mapping.record import AgencyRecord

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_CHUNK_BYTES = 64 * 1024


class FileChanged(Exception):
    """The file is not what it was when it was opened: somebody writes into it, or has put another in its place."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One record of a file. line: from 1 on, 0 if the file is one record. start, end: its bytes in the file, with the
    line's end. data: as they are in the file, without the line's end; None if they are too many."""

    name: str
    line: int
    start: int
    end: int
    data: bytes | None

    @property
    def origin(self) -> dict[str, str]:
        """For people and for the record's id."""
        return origin(self.name, self.line)

    def record(self) -> AgencyRecord | None:
        """What is mapped; None if it is too large."""
        return None if self.data is None else agency_record(self.data, self.origin)


def origin(name: str, line: int) -> dict[str, str]:
    """Where a record comes from."""
    return {"file": name, "line": str(line)} if line else {"file": name}


def agency_record(data: bytes, where: dict[str, str]) -> AgencyRecord:
    """A record of a file. What it says goes into its id: another file of the same name holds other records."""
    value = data.removeprefix(_BYTE_ORDER_MARK)
    return AgencyRecord(None, value, origin=where, incarnation=hashlib.sha256(value).hexdigest())


class PieceReader:
    """Goes through one file. Blocking: belongs in a thread."""

    def __init__(self, path: Path, form: Form, most_bytes: int) -> None:
        """Raises NoPlainFile, OSError."""
        self.path = path
        self._form = form
        self._most_bytes = most_bytes
        self._file = os.fdopen(open_plain(path), "rb")
        self.state = FileState.of(os.fstat(self._file.fileno()))
        self._at = 0
        self._line = 0
        self._was_read = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def skip(self, line: int, byte: int) -> None:
        """Go on after so many lines, which end at that byte."""
        self._line, self._at = line, byte
        self._file.seek(byte)

    def pass_over(self, lines: int) -> int:
        """Go on after so many lines; where that is. Raises ValueError if the file has fewer."""
        while self._line < lines:
            if self._at >= self.state.size_bytes:
                raise ValueError(f"{self.path.name} has only {self._line} lines")
            self._next()
        return self._at

    def read(self, most_records: int, most_bytes: int) -> list[Piece]:
        """The next pieces, none at the end. Raises FileChanged, OSError."""
        pieces = self._whole() if self._form == "json" else self._lines(most_records, most_bytes)
        self.refuse_changes()
        return pieces

    def _lines(self, most_records: int, most_bytes: int) -> list[Piece]:
        pieces: list[Piece] = []
        size_bytes = 0
        while len(pieces) < most_records and size_bytes < most_bytes and self._at < self.state.size_bytes:
            piece = self._next()
            if piece is not None:
                pieces.append(piece)
                size_bytes += len(piece.data or b"")
        return pieces

    def refuse_changes(self) -> None:
        """Raises FileChanged, also if another file has this one's name by now."""
        try:
            named = FileState.of(self.path.lstat())
        except FileNotFoundError:
            raise FileChanged(self.path.name) from None
        if not self.state == named == FileState.of(os.fstat(self._file.fileno())):
            raise FileChanged(self.path.name)

    def _whole(self) -> list[Piece]:
        """The file's one record, the first time; an empty file is a record too, and none that can be sent."""
        if self._was_read:
            return []
        self._was_read = True
        size_bytes = self.state.size_bytes
        data = self._file.read(size_bytes) if size_bytes <= self._most_bytes else None
        return [Piece(self.path.name, 0, 0, size_bytes, data)]

    def _next(self) -> Piece | None:
        """The next line; None for an empty one."""
        start = self._at
        data: bytes | None = self._file.readline(self._most_bytes + 2)
        if not data:  # cut off meanwhile
            self._at = self.state.size_bytes
            return None
        self._at += len(data)
        self._line += 1
        if not data.endswith(b"\n") and len(data) > self._most_bytes:
            data = None
            self._pass_line()
        else:
            data = data.removesuffix(b"\n").removesuffix(b"\r")
        return None if data is not None and not data.strip() else self._piece(start, data)

    def _piece(self, start: int, data: bytes | None) -> Piece:
        if data is not None and len(data) > self._most_bytes:
            data = None
        return Piece(self.path.name, self._line, start, self._at, data)

    def _pass_line(self) -> None:
        while part := self._file.readline(_CHUNK_BYTES):
            self._at += len(part)
            if part.endswith(b"\n"):
                return
