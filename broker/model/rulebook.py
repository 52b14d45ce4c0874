"""A rulebook revision: content-addressed Rego and data; and what decides by it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Revision:
    """One immutable revision.

    id: "sha256:" and 64 hex digits over the sorted (path, content) pairs, see `revision_id`.
    files: path inside the rulebook -> content, exactly what was hashed.
    time_dependent: whether decisions may depend on `time` (the manifest says so).
    """

    id: str
    files: Mapping[str, bytes]
    time_dependent: bool


@dataclass(frozen=True, slots=True)
class Rules:
    """What decisions are made by: a revision's id, and the engine, such as "opa 1.22.2"."""

    revision: str
    engine: str


def revision_id(files: Mapping[str, bytes]) -> str:
    """The id of a revision with these files.

    SHA-256 over, for each path in the order of its UTF-8 bytes: the path's length in bytes (8 bytes, big-endian), the
    path, the content's length, the content. The lengths keep two different sets of files from hashing alike.
    """
    state = hashlib.sha256()
    for path, content in sorted((path.encode(), content) for path, content in files.items()):
        for part in (path, content):
            state.update(len(part).to_bytes(8, "big"))
            state.update(part)
    return f"sha256:{state.hexdigest()}"
