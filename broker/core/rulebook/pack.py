"""Packs a rulebook's files as a .tar.gz that is the same for the same files."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Mapping
from typing import IO

_LEVEL = 6


def pack(files: Mapping[str, bytes], into: IO[bytes]) -> None:
    """Write the archive; `read_archive` reads it. files: path inside the rulebook -> content. Blocking."""
    with (
        gzip.GzipFile(fileobj=into, mode="wb", compresslevel=_LEVEL, mtime=0, filename="") as packed,
        tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as archive,
    ):
        for path in sorted(files):
            entry = tarfile.TarInfo(path)
            entry.size = len(files[path])
            entry.mode = 0o644
            archive.addfile(entry, io.BytesIO(files[path]))
