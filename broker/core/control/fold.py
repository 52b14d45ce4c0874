"""What every fold over the control log has in common: pure, and the same on every instance."""

from __future__ import annotations

from typing import Protocol, Self

from broker.model.control import ControlEvent


class EventVoid(Exception):
    """The event is in the log and does not count: another one came first. The text says which kind."""


class Fold(Protocol):
    """A value that is the sum of the events that counted so far."""

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds of events that it looks at; several folds may look at one kind."""

    def apply(self, event: ControlEvent, position: int) -> Self | None:
        """What it is after an event of one of its kinds; None if the event does not count, for any fold then.

        May raise KeyError, TypeError or ValueError for a body that has not its kind's form: it does not count either.
        """
