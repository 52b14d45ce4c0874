"""What becomes of records that cannot be moved: fail, skip, or a dead letter on the agency's own side."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from connectors.runtime.model import ConnectorFailed
from connectors.runtime.progress import Progress
from connectors.runtime.settings import OnError

log = logging.getLogger(__name__)

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
T_contra = TypeVar("T_contra", contravariant=True)


@dataclass(frozen=True, slots=True)
class Letter(Generic[T_co]):
    """A record that was refused.

    record: untouched, as it was read. cause: one line that begins with a reason in capitals, without anything of the
    record's content. attempt: counts its deliveries into dead letters, from 1. origin: where it comes from, for example
    {"cluster", "topic", "partition", "offset"}.
    """

    record: T_co
    cause: str
    attempt: int
    origin: Mapping[str, str]

    @property
    def place(self) -> str:
        """Its origin in one line."""
        return ", ".join(f"{name} {value}" for name, value in self.origin.items())


class DeadLetters(Protocol[T_contra]):
    """Where dead letters go: always on the agency's own side, never to the exchange."""

    async def put(self, letters: Sequence[Letter[T_contra]]) -> None:
        """Keep them; returns when they are durable. Raises ConnectorFailed."""
        ...


class Refusals(Generic[T]):
    """Treats refused records as the connector's `on_error` says."""

    def __init__(
        self, name: str, on_error: OnError, dead_letters: DeadLetters[T] | None, progress: Progress
    ) -> None:
        """dead_letters: needed for "dead-letter" only."""
        self._name = name
        self._on_error = on_error
        self._dead_letters = dead_letters
        self._progress = progress

    async def treat(self, letters: Sequence[Letter[T]]) -> None:
        """Deal with them for good; after that their offsets may be committed. Raises ConnectorFailed."""
        if not letters:
            return
        if self._on_error == "dead-letter" and self._dead_letters is not None:
            await self._dead_letters.put(letters)
            self._progress.dead_lettered += len(letters)
        elif self._on_error == "skip":
            self._progress.skipped += len(letters)
        else:
            self._progress.failed += 1
            first = letters[0]
            remedy = "mend it or its mapping, or choose on_error skip or dead-letter"
            raise ConnectorFailed(f"{first.place}: {first.cause}; {remedy}")
        for letter in letters:
            log.warning("connector %s: %s at %s: %s", self._name, self._on_error, letter.place, letter.cause)
