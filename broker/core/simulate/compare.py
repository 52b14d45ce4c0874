"""How two outcomes differ for those who receive the records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime

from broker.core.rulebook.cases.run import show_treatment
from broker.core.simulate.model import Detail, Outcome, Shift
from broker.model.decision import Effect, Treatment

_AMOUNT = {None: 0, Effect.WITHHOLD: 0, Effect.NOTICE: 1, Effect.RELEASE: 2}


def compare(before: Outcome, after: Outcome) -> tuple[Shift, tuple[Detail, ...]] | None:
    """What the change does for them, and each thing that is different; None if they see no difference."""
    if before.effect is not after.effect:
        less = _AMOUNT[after.effect] < _AMOUNT[before.effect]
        if _AMOUNT[before.effect] == _AMOUNT[after.effect]:
            # Withheld before and undecided now, or the reverse: nobody receives it either way.
            return Shift.DIFFERS, ()
        return (Shift.LOSES if less else Shift.GAINS), ()
    details = tuple(_details(before, after))
    return (Shift.DIFFERS, details) if details else None


def _details(before: Outcome, after: Outcome) -> Iterator[Detail]:
    yield from _treatments("marking ", before.treatments, after.treatments)
    if before.treatments == after.treatments or before.treatments.keys() != after.treatments.keys():
        # The type marks its fields otherwise: what becomes of each says more than what becomes of markings.
        yield from _treatments("", _named(before.fields), _named(after.fields))
    for word in sorted({*before.obligations} ^ {*after.obligations}):
        held = word in before.obligations
        yield Detail(f"obligation {word}", "yes" if held else None, None if held else "yes")
    for what, old, new in (
        ("recorded from", before.not_before, after.not_before),
        ("until", before.valid_until, after.valid_until),
    ):
        if old != new:
            yield Detail(what, _moment(old), _moment(new))


def _treatments(
    prefix: str, before: Mapping[str, Treatment], after: Mapping[str, Treatment]
) -> Iterator[Detail]:
    for name in sorted({*before, *after}):
        old, new = before.get(name), after.get(name)
        if old != new:
            yield Detail(f"{prefix}{name}", _shown(old), _shown(new))


def _named(fields: Mapping[str, Treatment]) -> dict[str, Treatment]:
    return {
        (f"attribute {path[1:]}" if path.startswith("@") else f"field {path}"): treatment
        for path, treatment in fields.items()
        if path
    }


def _shown(treatment: Treatment | None) -> str | None:
    return None if treatment is None else show_treatment(treatment)


def _moment(instant: datetime | None) -> str | None:
    return None if instant is None else instant.isoformat().replace("+00:00", "Z")
