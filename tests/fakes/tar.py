"""Tar archives that no honest program writes: headers with any size, and chains of headers."""

from __future__ import annotations

import gzip
import tarfile
from collections.abc import Mapping
from pathlib import Path

END = bytes(2 * tarfile.BLOCKSIZE)


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE, written: bytes | None = None) -> bytes:
    """One header; written: the twelve bytes of its size as they stand there, its check sum being right."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.type = size, kind
    block = bytearray(entry.tobuf(tarfile.USTAR_FORMAT))
    if written is not None:
        block[124:136] = written
        block[148:156] = b" " * 8
        block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def padded(content: bytes) -> bytes:
    """Content as it stands in an archive."""
    return content + bytes(-len(content) % tarfile.BLOCKSIZE)


def extended(**records: str) -> bytes:
    """A pax header with these records for the entry that comes next."""
    lines = b""
    for key, value in records.items():
        line = f" {key.replace('_', '.')}={value}\n".encode()
        size = len(line) + len(str(len(line)))
        size += len(str(size)) - len(str(len(line)))
        lines += b"%d%b" % (size, line)
    return header("x", len(lines), tarfile.XHDTYPE) + padded(lines)


def negative(number: int) -> bytes:
    """A negative size in GNU's base-256 form."""
    return (256**12 - number).to_bytes(12, "big")


def packed(files: Mapping[str, bytes], *more: bytes) -> bytes:
    """A tar.gz of these files, with raw blocks behind them."""
    entries = (header(name, len(content)) + padded(content) for name, content in files.items())
    return gzip.compress(b"".join([*entries, *more, END]), compresslevel=1)


def write(path: Path, content: bytes) -> Path:
    """The path, with this content."""
    path.write_bytes(content)
    return path
