"""What the rulebook answers: effects, treatments and decisions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class Effect(StrEnum):
    """What becomes of one record for one subject; for publish and subscribe RELEASE means permitted."""

    RELEASE = "release"
    NOTICE = "notice"
    WITHHOLD = "withhold"


class TreatmentKind(StrEnum):
    """What becomes of a field; see `Treatment.strictness` for the order."""

    KEEP = "keep"
    MASK = "mask"
    PSEUDONYM = "pseudonym"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class Treatment:
    """One treatment; `keep_first` and `keep_last` count characters and belong to MASK only."""

    kind: TreatmentKind
    keep_first: int = 0
    keep_last: int = 0

    @property
    def strictness(self) -> int:
        """0 keep < 1 mask that keeps characters < 2 pseudonym < 3 full mask < 4 remove."""
        if self.kind is TreatmentKind.MASK:
            return 1 if self.keep_first or self.keep_last else 3
        return {TreatmentKind.KEEP: 0, TreatmentKind.PSEUDONYM: 2}.get(self.kind, 4)


KEEP = Treatment(TreatmentKind.KEEP)
REMOVE = Treatment(TreatmentKind.REMOVE)


def strictest(treatments: Iterable[Treatment]) -> Treatment:
    """The treatment that reveals least; none at all counts as REMOVE.

    All masks combine first, to the fewest characters on each side, so that the order does not matter.
    """
    given = list(treatments)
    masks = [treatment for treatment in given if treatment.kind is TreatmentKind.MASK]
    if masks:
        first, last = min(mask.keep_first for mask in masks), min(mask.keep_last for mask in masks)
        combined = Treatment(TreatmentKind.MASK, first, last)
        given = [combined, *(treatment for treatment in given if treatment.kind is not TreatmentKind.MASK)]
    return max(given, key=lambda treatment: treatment.strictness, default=REMOVE)


@dataclass(frozen=True, slots=True)
class Decision:
    """A well-formed answer of one revision for one input item.

    `not_before` is compared with the record's `recordedtime`; past `valid_until` the decision no longer holds.
    A marking that `treatments` does not mention is removed. `time` is the input's, where the revision depends on it.
    """

    effect: Effect
    treatments: Mapping[str, Treatment] = field(default_factory=dict)
    obligations: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    not_before: datetime | None = None
    valid_until: datetime | None = None
    time: str | None = None

    @property
    def permitted(self) -> bool:
        """For publish and subscribe: whether the call may go on."""
        return self.effect is Effect.RELEASE

    def holds_at(self, now: datetime) -> bool:
        """Whether the decision still holds; `valid_until` itself is past (the interval is half open)."""
        return self.valid_until is None or now < self.valid_until
