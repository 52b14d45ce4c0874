"""Witnesses: somebody else who keeps the checkpoints, so that a ledger cannot be rolled back or shown in two versions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class WitnessUpdate:
    """A new checkpoint for a witness that holds one of `old_size`, 0 for none.

    note: the signed checkpoint. proof: that the old tree is a prefix of the new one (RFC 9162 §2.1.4), empty for 0.
    """

    origin: str
    note: bytes
    old_size: int
    proof: tuple[bytes, ...]


class WitnessUnavailable(Exception):
    """The witness did not answer, or not as it should; one line: which and what to do. It may be offered again."""


class WitnessConflict(Exception):
    """The witness holds another size than the update says; `held_size` is it."""

    def __init__(self, held_size: int) -> None:
        super().__init__(f"the witness holds a checkpoint of size {held_size}")
        self.held_size = held_size


class WitnessFork(Exception):
    """What the witness holds is no earlier state of what it was offered: one of the two was rolled back, changed or forked.

    One line: which witness, at what size, what to do. Offering again changes nothing.
    """


class Witness(Protocol):
    """One witness; methods raise WitnessUnavailable."""

    @property
    def name(self) -> str:
        """As the configuration names it."""

    async def held_size(self, origin: str, checkpoint: bytes) -> int:
        """The size of the newest checkpoint that it holds of this origin, 0 for none.

        checkpoint: a signed one of the origin (of size 0 if there is no other), because some witnesses answer only to the
        log itself; one that holds none may keep it, and then this is its size.
        """

    async def latest(self, origin: str) -> bytes | None:
        """The newest checkpoint that it holds of this origin, or None; also None where it cannot tell."""

    async def offer(self, update: WitnessUpdate) -> bytes | None:
        """Hand over a checkpoint; returns the cosignature's line (C2SP tlog-cosignature), or None if it makes none.

        The line is one that was verified, with its newline. Raises WitnessConflict, WitnessFork.
        """

    async def close(self) -> None:
        """Release all resources; idempotent."""
