"""Stores each portion of deliveries once, whatever happens in between: with its cursor, in one transaction.

Nothing is believed of a transaction that did not end well. A new writer is opened, which ends what the old one began and
keeps it from committing; then the place is read back: it is the portion's cursor, and the portion is stored, or it is the
place from before, and the portion is not. Whoever finds that another process has taken the connector over ends for good.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from connectors.delivery import Start
from connectors.kafka.cursors import Kept
from connectors.kafka.encoding import Outgoing
from connectors.kafka.portion import Portion
from connectors.kafka.transactions import TooLarge, Unsettled
from connectors.retry import Retry
from connectors.runtime.model import ConnectorFailed


class Writer(Protocol):
    """As TransactionalWriter."""

    def open(self) -> None:
        """As TransactionalWriter.open."""
        ...

    def write(self, records: Sequence[Outgoing], *, alone: bool = False) -> int:
        """As TransactionalWriter.write."""
        ...

    def close(self) -> None:
        """As TransactionalWriter.close."""
        ...

    def abandon(self) -> None:
        """As TransactionalWriter.abandon."""
        ...


class Places(Protocol):
    """As CursorTopic."""

    def place(self, place: Start, portion: str = "") -> Outgoing:
        """As CursorTopic.place."""
        ...

    def claim(self, instance: str) -> Outgoing:
        """As CursorTopic.claim."""
        ...

    def read(self, upto: int | None = None) -> Kept:
        """As CursorTopic.read."""
        ...


@dataclass(slots=True)
class Ownership:
    """Which instance this is, and whether it has taken the connector over: it may then not do so again unasked."""

    instance: str
    claimed: bool = False


class ExactlyOnce:
    """Blocks, so all but `abandon` belongs to one thread. Every method raises ConnectorFailed and KafkaError."""

    def __init__(
        self,
        make_writer: Callable[[], Writer],
        places: Places,
        ownership: Ownership,
        retry: Retry,
        retried: Callable[[], None],
    ) -> None:
        """retried: told of each attempt beyond the first."""
        self._make_writer = make_writer
        self._places = places
        self._ownership = ownership
        self._retry = retry
        self._retried = retried
        self._writer: Writer | None = None
        self._abandoned = threading.Event()
        self._portion = ""
        self._alone = False
        self.place: Start | None = None
        """Where the connector stands."""
        self.damaged = False
        """Whether what is kept of that is no place: then only `store` helps."""

    def open(self) -> None:
        """Take the connector over and learn where it stands. Raises Unsettled too."""
        if self._ownership.claimed:
            self._require_owner(self._places.read().owner)
        self._close_writer()
        writer = self._writer = self._make_writer()
        if self._abandoned.is_set():
            writer.abandon()
        writer.open()
        claimed_at = writer.write([self._places.claim(self._ownership.instance)])
        self._ownership.claimed = True
        kept = self._places.read(claimed_at)
        self._require_owner(kept.owner)
        self.place, self._portion, self.damaged = kept.place, kept.portion, kept.damaged

    def still_owner(self) -> None:
        """Raises ConnectorFailed if another process has taken over."""
        self._require_owner(self._places.read().owner)

    def store(self, portion: Portion) -> None:
        """Store its records with its cursor; returns when both are committed."""
        self._alone = False
        pauses_s = self._retry.pauses_s()
        while not self._attempted(portion, pauses_s):
            pass

    def close(self) -> None:
        """Give the writer up."""
        self._close_writer()

    def abandon(self) -> None:
        """In any thread: let what blocks end soon."""
        self._abandoned.set()
        if self._writer is not None:
            self._writer.abandon()

    def _attempted(self, portion: Portion, pauses_s: Iterator[float]) -> bool:
        if self._writer is None:
            raise ConnectorFailed("the Kafka sink was closed")
        try:
            records = [*portion.records(), self._places.place(portion.cursor, portion.id)]
            self._writer.write(records, alone=self._alone)
            self.place, self._portion, self.damaged = portion.cursor, portion.id, False
            return True
        except TooLarge as refused:
            portion.refuse(refused.at)
            cause = "TooLarge"
        except Unsettled as unsettled:
            cause = unsettled.cause
            self._alone = self._alone or unsettled.too_large
            self._pause(pauses_s, cause)
        before = self._portion
        self._reopen(pauses_s, cause)
        if self._portion == portion.id:
            return True
        if self._portion != before:
            raise ConnectorFailed(
                "the connector's place was changed while it ran; it starts again from there"
            )
        return False

    def _reopen(self, pauses_s: Iterator[float], cause: str) -> None:
        while True:
            try:
                return self.open()
            except Unsettled as unsettled:
                self._pause(pauses_s, unsettled.cause or cause)

    def _pause(self, pauses_s: Iterator[float], cause: str) -> None:
        pause_s = next(pauses_s, None)
        if pause_s is None or self._abandoned.wait(pause_s):
            self._require_owner(self._places.read().owner)
            raise ConnectorFailed(
                f"Kafka did not take a transaction: {cause}; see the cluster's state and its log"
            )
        self._retried()

    def _require_owner(self, owner: str | None) -> None:
        if owner != self._ownership.instance:
            # Whoever is told this may decide otherwise: a restart then takes it over again.
            self._ownership.claimed = False
            raise ConnectorFailed(
                "another process runs this connector and has taken it over; stop one of them, then restart",
                lasting=True,
            )

    def _close_writer(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()
