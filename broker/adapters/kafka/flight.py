"""What became of messages that were handed to a producer together."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

log = logging.getLogger(__name__)


class SendFailed(Exception):
    """Kafka did not confirm; `stored` is False when the messages certainly are not in the log, None when unknown."""

    def __init__(self, message: str, *, stored: bool | None) -> None:
        super().__init__(message)
        self.stored = stored


class Flight:
    """What became of a flight's messages, told in the order in which they were sent."""

    __slots__ = ("_count", "_failure", "_offsets", "_report", "landed")

    def __init__(self, count: int, report: Callable[[list[int] | SendFailed], None]) -> None:
        self.landed = False
        self._count = count
        self._report = report
        self._offsets: list[int] = []
        self._failure: str | None = None

    def told(self, error: Any, message: Any) -> None:
        """The delivery report of the next message; a stored one whose place Kafka no longer tells has no offset."""
        offset = message.offset()
        self._offsets.append(-1 if offset is None else offset)
        if error is not None:
            self._failure = self._failure or error.name()
        if len(self._offsets) == self._count:
            self.land(self._offsets if self._failure is None else self._unconfirmed())

    def land(self, outcome: list[int] | SendFailed) -> None:
        """The flight's outcome is known."""
        self.landed = True
        self._report(outcome)

    def _unconfirmed(self) -> SendFailed:
        log.warning("Kafka did not confirm a flight: %s", self._failure)
        return SendFailed(f"Kafka did not confirm it: {self._failure}", stored=None)
