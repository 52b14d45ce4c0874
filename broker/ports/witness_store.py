"""What a cosigning witness keeps: for each origin the newest checkpoint, and what was offered that does not fit it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol


@dataclass(frozen=True, slots=True)
class Misfit:
    """A checkpoint with a valid signature of its log that does not fit the one that is held.

    kind: "fork" for two roots of one size, which proves by itself that the log signed two histories; "unproven" for a
    proof that does not verify, which somebody else may have sent who has no part in the log. held, offered: signed notes.
    """

    kind: Literal["fork", "unproven"]
    origin: str
    time_ms: int
    held: bytes
    offered: bytes
    old_size: int
    proof: tuple[bytes, ...]


class WitnessStore(Protocol):
    """Blocking, and used by one thread at a time for each origin. Methods raise StorageUnavailable."""

    def held(self, origin: str) -> bytes | None:
        """The signed note that was kept last, or None."""

    def keep(self, origin: str, note: bytes) -> None:
        """Put a note in the place of the one before: whole or not at all, and durable on return."""

    def record(self, misfit: Misfit) -> bool:
        """Keep evidence, once each and only so much of it; whether it is new."""
