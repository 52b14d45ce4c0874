"""Who belongs to the exchange: the instances that joined, and have neither left nor been fenced."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from broker.core.control.values import whole_number, word
from broker.model.control import ControlEvent


@dataclass(frozen=True, slots=True)
class Member:
    """One running instance. ledger_epoch: under which it writes its ledger. joined: the position of that event."""

    instance: str
    run: str
    ledger_epoch: int
    joined: int


@dataclass(frozen=True, slots=True)
class Members:
    """The present members, by instance; `epochs`: the newest ledger epoch under which each name ever joined."""

    present: Mapping[str, Member] = field(default_factory=dict)
    epochs: Mapping[str, int] = field(default_factory=dict)
    kinds: ClassVar[frozenset[str]] = frozenset({"joined", "left", "fenced"})

    def apply(self, event: ControlEvent, position: int) -> Members | None:
        """See Fold."""
        run = word(event.body, "run")
        if event.kind == "joined":
            return self._joined(event, run, position)
        leaving = event.instance if event.kind == "left" else word(event.body, "of")
        if not self.has(leaving, run):
            return None
        return Members({name: m for name, m in self.present.items() if name != leaving}, self.epochs)

    def has(self, instance: str, run: str) -> bool:
        """Whether this run of the instance is a member."""
        member = self.present.get(instance)
        return member is not None and member.run == run

    def _joined(self, event: ControlEvent, run: str, position: int) -> Members | None:
        """A newer run takes an older one's place: by its claim on their ledger the older can release nothing any more."""
        epoch = whole_number(event.body, "ledger_epoch")
        if epoch <= self.epochs.get(event.instance, 0):
            return None
        member = Member(event.instance, run, epoch, position)
        return Members({**self.present, event.instance: member}, {**self.epochs, event.instance: epoch})
