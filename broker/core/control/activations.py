"""Which revision is in force: one for each number, whoever crashes when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

from broker.core.control.members import Members
from broker.core.control.values import whole_number, word
from broker.model.control import ControlEvent


@dataclass(frozen=True, slots=True)
class Activated:
    """A revision that came into force: `number` 1, 2, 3 …, at which position and time, by which activation."""

    number: int
    revision: str
    position: int
    time_ms: int
    activation: str = ""
    proposal: str | None = None
    rollback: bool = False


@dataclass(frozen=True, slots=True)
class Pending:
    """An activation under way: `instance` and `run` lead it.

    prepared: the runs that hold the revision ready. failed: the cause, by run.
    """

    activation: str
    revision: str
    base: int
    instance: str
    run: str
    proposal: str | None
    rollback: bool
    prepared: frozenset[str] = frozenset()
    failed: Mapping[str, str] = field(default_factory=dict)

    def is_ready(self, members: Members) -> bool:
        """Whether every member, those that joined meanwhile too, holds the revision prepared."""
        runs = {member.run for member in members.present.values()}
        return runs <= self.prepared - self.failed.keys()


@dataclass(frozen=True, slots=True)
class Activations:
    """All that was ever in force, the newest last, and the activation under way. At most one is, and none is void."""

    history: tuple[Activated, ...] = ()
    pending: Pending | None = None
    kinds: ClassVar[frozenset[str]] = frozenset(
        {"genesis", "preparing", "prepared", "unprepared", "activated", "abandoned"}
    )

    @property
    def number(self) -> int:
        """How many revisions came into force so far, the first by the genesis: 0 before it."""
        return len(self.history)

    @property
    def revision(self) -> str | None:
        """The id of the revision in force; None before the genesis."""
        return self.history[-1].revision if self.history else None

    def apply(self, event: ControlEvent, position: int) -> Activations | None:
        """See Fold. That all members are ready for an `activated` is for ControlState to ask."""
        if event.kind == "genesis":
            return self._genesis(event, position)
        if event.kind == "preparing":
            return self._preparing(event)
        pending = self.pending
        if pending is None or word(event.body, "activation") != pending.activation:
            return None
        if event.kind == "abandoned":
            return replace(self, pending=None)
        if event.kind == "activated":
            return self._activated(pending, event, position)
        run = word(event.body, "run")
        if event.kind == "prepared":
            return replace(self, pending=replace(pending, prepared=pending.prepared | {run}))
        failed = {**pending.failed, run: word(event.body, "cause")}
        return replace(self, pending=replace(pending, failed=failed))

    def _genesis(self, event: ControlEvent, position: int) -> Activations | None:
        """The first one counts."""
        if self.history:
            return None
        first = Activated(1, word(event.body, "revision"), position, event.time_ms)
        return replace(self, history=(first,))

    def _preparing(self, event: ControlEvent) -> Activations | None:
        """Counts if nothing else is under way, and it is based on what is in force."""
        body = event.body
        if self.pending is not None or not self.history or whole_number(body, "base") != self.number:
            return None
        pending = Pending(
            word(body, "activation"),
            word(body, "revision"),
            self.number,
            event.instance,
            word(body, "run"),
            None if body.get("proposal") is None else word(body, "proposal"),
            body.get("rollback") is True,
        )
        return replace(self, pending=pending)

    def _activated(self, pending: Pending, event: ControlEvent, position: int) -> Activations | None:
        if whole_number(event.body, "base") != self.number:
            return None
        newest = Activated(
            self.number + 1,
            pending.revision,
            position,
            event.time_ms,
            pending.activation,
            pending.proposal,
            pending.rollback,
        )
        return replace(self, history=(*self.history, newest), pending=None)
