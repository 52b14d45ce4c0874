"""A rulebook revision: content-addressed Rego and data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Revision:
    """One immutable revision.

    id: "sha256:" and 64 hex digits over the sorted (path, content) pairs.
    files: path inside the rulebook -> content, exactly what was hashed.
    time_dependent: whether decisions may depend on `time` (the manifest says so).
    """

    id: str
    files: Mapping[str, bytes]
    time_dependent: bool
