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

    Two masks that keep characters combine to the fewer characters on each side.
    """
    result: Treatment | None = None
    for treatment in treatments:
        result = treatment if result is None else _stricter(result, treatment)
    return result or REMOVE


def _stricter(left: Treatment, right: Treatment) -> Treatment:
    if left.strictness == right.strictness == 1:
        first, last = min(left.keep_first, right.keep_first), min(left.keep_last, right.keep_last)
        return Treatment(TreatmentKind.MASK, first, last)
    return left if left.strictness >= right.strictness else right


@dataclass(frozen=True, slots=True)
class Decision:
    """A well-formed answer of one revision for one input item.

    `not_before` is compared with the record's `recordedtime`; past `valid_until` the decision no longer holds.
    A marking that `treatments` does not mention is removed.
    """

    effect: Effect
    treatments: Mapping[str, Treatment] = field(default_factory=dict)
    obligations: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    not_before: datetime | None = None
    valid_until: datetime | None = None

    @property
    def permitted(self) -> bool:
        """For publish and subscribe: whether the call may go on."""
        return self.effect is Effect.RELEASE

    def holds_at(self, now: datetime) -> bool:
        """Whether the decision still holds; `valid_until` itself is past (the interval is half open)."""
        return self.valid_until is None or now < self.valid_until
