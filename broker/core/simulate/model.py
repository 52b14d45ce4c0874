"""What a simulation is made of, and what it comes to. Nothing here holds a record's content."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from broker.model.decision import Effect, Treatment
from broker.model.labels import Labels
from broker.model.principal import SubjectClass
from broker.model.registry import Registry
from broker.model.rulebook import Revision
from broker.ports.rulebook_trial import RulebookTrial


@dataclass(frozen=True, slots=True)
class RecordKind:
    """All that a decision knows of a record: what records of one owner, type and label set on one topic share."""

    topic: str
    type: str
    owner: str
    labels: Labels


@dataclass(frozen=True, slots=True)
class Combination:
    """What is decided: records of one kind for one class of subjects."""

    subject: SubjectClass
    record: RecordKind


@dataclass(frozen=True, slots=True)
class Example:
    """One record by its attributes; time_ms: when it was recorded, in milliseconds since 1970."""

    source: str
    id: str
    time_ms: int


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two rulebooks: what it registers, and it on trial."""

    revision: Revision
    registry: Registry
    trial: RulebookTrial


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a class gets of records of one kind under one revision.

    effect: None if the revision gives no well-formed decision; the records wait or are withheld then. fields: by path
    (attributes by `@name`) what becomes of what stands there, the strictest treatment of all its markings.
    """

    effect: Effect | None
    treatments: Mapping[str, Treatment] = field(default_factory=dict)
    fields: Mapping[str, Treatment] = field(default_factory=dict)
    obligations: tuple[str, ...] = ()
    not_before: datetime | None = None
    valid_until: datetime | None = None


class Shift(StrEnum):
    """What a change does for a class: more than before, less, or the same records seen differently."""

    GAINS = "gains"
    LOSES = "loses"
    DIFFERS = "differs"


@dataclass(frozen=True, slots=True)
class Detail:
    """One thing that is different, such as the treatment of a marking; before or after None: was or is not there."""

    what: str
    before: str | None
    after: str | None


class Part(StrEnum):
    """Where a combination comes from; one of several counts in the first of these."""

    RECORDED = "recorded"
    STORED = "stored"
    WHAT_IF = "what_if"


@dataclass(frozen=True, slots=True)
class Row:
    """One combination whose outcome changes.

    handed_out, withheld: how many times the ledger has it decided so, in the time that was looked at. stored: records of
    this kind that are still stored, None if that is not known; before, after: how many of them the class could receive,
    or be told of.
    """

    part: Part
    combination: Combination
    shift: Shift
    before: Outcome
    after: Outcome
    details: tuple[Detail, ...]
    handed_out: int = 0
    withheld: int = 0
    stored: int | None = None
    stored_before: int | None = None
    stored_after: int | None = None
    example: Example | None = None


@dataclass(frozen=True, slots=True)
class Reach:
    """How much of one owner's records on one topic a whole agency gets, of those pairs where a row says that it changes.

    recorded: the decisions that the ledger has, decided again under each revision, as far as they hand something out;
    stored: distinct records that some class of the agency can receive or be told of. None: not known, or not told.
    """

    owner: str
    consumer: str
    topic: str
    recorded_before: int | None
    recorded_after: int | None
    stored_before: int | None
    stored_after: int | None


@dataclass(frozen=True, slots=True)
class Tally:
    """Distinct combinations of one part: that there are, that were decided, and what the change does for them.

    possible, decided: None where they are not told.
    """

    possible: int | None = 0
    decided: int | None = 0
    gains: int = 0
    loses: int = 0
    differs: int = 0


@dataclass(frozen=True, slots=True)
class Volume:
    """What one owner's part was taken from, and what it comes to.

    handed_out, withheld: recorded decisions; stored: records (None: not known).
    cut: more was recorded or stored than is looked at.
    """

    handed_out: int = 0
    withheld: int = 0
    stored: int | None = None
    tallies: Mapping[Part, Tally] = field(default_factory=dict)
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Simulation:
    """The result. volumes: by owner. scope: the owner for whom it was made, None for all; notes: what was not looked at."""

    before: str
    after: str
    scope: str | None
    rows: tuple[Row, ...]
    reaches: tuple[Reach, ...]
    volumes: Mapping[str, Volume]
    notes: tuple[str, ...] = ()


class SimulationFailed(Exception):
    """There is no result; one line: what, and what to do."""
