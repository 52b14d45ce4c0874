"""What a group works with, and who decides where streams are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeVar

from broker.core.deliver.lens import Lens
from broker.core.deliver.prepare import Preparer
from broker.core.deliver.session import Session
from broker.core.evidence import Evidence
from broker.core.in_force import InForce
from broker.core.regime import Regime
from broker.model.principal import SubjectClass
from broker.ports.clock import Clock
from broker.ports.keys import Keys
from broker.ports.record_log import RecordLog

_Group_contra = TypeVar("_Group_contra", contravariant=True)


@dataclass(frozen=True, slots=True)
class GroupKey:
    """What the members of a group have in common. apart: the only principal in it, if owners' records wait for that one."""

    topic: str
    subject: SubjectClass
    apart: str | None = None

    @classmethod
    def of(cls, session: Session) -> GroupKey:
        """Of a session as it is now."""
        return cls(session.topic, session.subject_class, session.apart)


@dataclass(frozen=True, slots=True)
class Tools:
    """What every group works with."""

    in_force: InForce[Regime]
    record_log: RecordLog
    preparer: Preparer
    evidence: Evidence
    clock: Clock
    keys: Keys


class Placement(Protocol[_Group_contra]):
    """Who decides where sessions are: the fan-out."""

    def is_served(self, session: Session) -> bool:
        """Whether the session may still be handed what is released to it."""

    def lens(self, regime: Regime, topic: str, subject: SubjectClass) -> Lens:
        """The one through which all groups of the class see the topic."""

    def place(self, session: Session) -> None:
        """Put the session into the group at its standing, or a new one."""

    def park(self, session: Session) -> None:
        """Set the session aside until it has credit and room."""

    def merge(self, group: _Group_contra) -> None:
        """Move the group's members to another one that stands where it does."""

    def forget(self, group: _Group_contra) -> None:
        """Take the group out of the index."""
