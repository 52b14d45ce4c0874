"""What one reading of agreements leaves for the next: of two revisions nearly all files of a large rulebook are the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256

from broker.model.registry import Agreement


@dataclass(frozen=True, slots=True)
class ReadFile:
    """One owner's agreements, of a file of the right shape. markings: that their treatments name, which they do not keep."""

    digest: bytes
    agreements: tuple[Agreement, ...]
    markings: frozenset[str]


class ReadBefore:
    """The files of the registry that was read last, by path. It holds its agreements, which registries then share.

    Several threads may read at once: each finds what some reading left whole, and the last one to end counts.
    """

    def __init__(self) -> None:
        self._files: Mapping[str, ReadFile] = {}

    def find(self, path: str, content: bytes) -> ReadFile | None:
        """What was read at the path, if it was the same to the byte."""
        known = self._files.get(path)
        return known if known is not None and known.digest == digest_of(content) else None

    def leave(self, files: Mapping[str, ReadFile]) -> None:
        """What a reading that found no fault has read."""
        self._files = files


def digest_of(content: bytes) -> bytes:
    """Of a file as a whole."""
    return sha256(content).digest()
