"""What became of the records of one `entente publish`: counted, and each refusal told on standard error."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from connectors.cli.failures import ExitCode, complain

if TYPE_CHECKING:
    from connectors.publishing import PublishOutcome


@dataclass(slots=True)
class Tally:
    """Counts; `places` are those of the records that were sent and have no outcome yet, in order."""

    published: int = 0
    duplicates: int = 0
    refused: int = 0
    places: deque[str] = field(default_factory=deque)

    def fault(self, place: str, problem: str) -> None:
        """A place of the input that gave no record."""
        self.refused += 1
        complain(f"{place}: {problem}")

    def note(self, outcome: PublishOutcome) -> None:
        """The exchange's answer for the oldest record without one."""
        if outcome.position is None:
            self.refuse(outcome.id, outcome.reason, outcome.message, outcome.reference)
            return
        self.places.popleft()
        if outcome.duplicate:
            self.duplicates += 1
        else:
            self.published += 1

    def refuse(self, record_id: str, reason: str | None, message: str | None, reference: str | None) -> None:
        """The oldest record without an answer was refused, or would be."""
        self.refused += 1
        complain(f"{self.places.popleft()} (id {record_id}): {reason}: {message} (reference {reference})")

    @property
    def durable(self) -> int:
        """How many are with the exchange, now or from before."""
        return self.published + self.duplicates

    def summary(self) -> dict[str, object]:
        """The counts as an object; `unknown`: sent, but the call failed before an answer (publish them again)."""
        return {
            "published": self.published,
            "duplicates": self.duplicates,
            "refused": self.refused,
            "unknown": len(self.places),
        }

    def exit_code(self) -> ExitCode:
        """DONE, REFUSED if nothing was taken, else PARTLY_PUBLISHED."""
        if not self.refused:
            return ExitCode.DONE
        return ExitCode.PARTLY_PUBLISHED if self.durable else ExitCode.REFUSED
