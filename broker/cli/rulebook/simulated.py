"""A simulation in words: rows that say the same together, counts, and objects for programs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from broker.cli.audit.times import format_ms
from broker.cli.rulebook.opened import counted

if TYPE_CHECKING:
    from broker.core.simulate.model import Example, Outcome, Row, Simulation, Tally
    from broker.model.labels import Labels

_EFFECTS = {"release": "records", "notice": "notices", "withhold": "nothing", None: "no decision"}
_PARTS = {"recorded": "recorded", "stored": "stored", "what_if": "what if"}


@dataclass(frozen=True, slots=True)
class Group:
    """Rows about one owner's records of one type on one topic for one agency and purpose that change alike.

    change: in words. before, after: stored records in all, None if nobody looked.
    """

    rows: tuple[Row, ...]
    change: str
    handed_out: int
    withheld: int
    before: int | None
    after: int | None

    @property
    def who(self) -> str:
        """The classes: agency, purpose, roles and attributes."""
        subjects = [row.combination.subject for row in self.rows]
        found = f"{subjects[0].agency} for {subjects[0].purpose}"
        if any(each.roles for each in subjects):
            found += "; " + ", ".join(dict.fromkeys("+".join(each.roles) or "no role" for each in subjects))
        for name in dict.fromkeys(name for each in subjects for name, _ in each.attributes):
            words = dict.fromkeys(dict(each.attributes).get(name, "none") for each in subjects)
            found += f"; {name} {', '.join(words)}"
        return found

    @property
    def what(self) -> str:
        """The records: owner, type and topic."""
        record = self.rows[0].combination.record
        return f"{record.type} of {record.owner} on {record.topic}"

    @property
    def labels(self) -> str:
        """Each label set once."""
        return "; ".join(dict.fromkeys(labels_in_short(row.combination.record.labels) for row in self.rows))

    @property
    def recorded(self) -> str:
        """How often the ledger has it."""
        parts = ((self.handed_out, "handed out"), (self.withheld, "withheld"))
        return ", ".join(f"{number:,} {what}" for number, what in parts if number) or "-"

    @property
    def stored(self) -> str:
        """How many stored records they could receive before and after."""
        return from_to(self.before, self.after)

    @property
    def example(self) -> Example | None:
        """One record."""
        return next((row.example for row in self.rows if row.example is not None), None)


def groups_of(rows: Iterable[Row]) -> list[Group]:
    """Gains first, then losses, then differences; of each the largest first."""
    found: dict[tuple[object, ...], list[Row]] = defaultdict(list)
    for row in rows:
        subject, record = row.combination.subject, row.combination.record
        kind = (record.owner, subject.agency, subject.purpose, record.topic, record.type)
        found[(*kind, row.shift, row.before.effect, row.after.effect, row.details)].append(row)
    groups = [_group(each) for each in found.values()]
    order = ("gains", "loses", "differs")

    def size(group: Group) -> tuple[int, int, int]:
        stored = abs((group.after or 0) - (group.before or 0)) or (group.after or 0)
        return order.index(group.rows[0].shift), -(group.handed_out + group.withheld), -stored

    return sorted(groups, key=size)


def _group(rows: list[Row]) -> Group:
    before: dict[object, int] = defaultdict(int)
    after: dict[object, int] = defaultdict(int)
    for row in rows:
        kind = row.combination.record
        before[kind] = max(before[kind], row.stored_before or 0)
        after[kind] = max(after[kind], row.stored_after or 0)
    known = rows[0].stored is not None
    return Group(
        tuple(rows),
        change_of(rows[0]),
        sum(row.handed_out for row in rows),
        sum(row.withheld for row in rows),
        sum(before.values()) if known else None,
        sum(after.values()) if known else None,
    )


def change_of(row: Row) -> str:
    """What changes, in words."""
    if row.before.effect is not row.after.effect:
        return f"{_EFFECTS[row.before.effect]} → {_EFFECTS[row.after.effect]}"
    return "; ".join(f"{each.what}: {each.before or 'none'} → {each.after or 'none'}" for each in row.details)


def labels_in_short(labels: Labels) -> str:
    """The classification, and what else there is."""
    others = {
        "regulation": "+".join(labels.dataregulation),
        "category": labels.datacategory,
        "purposes": "+".join(labels.purposes),
        "releasable to": "+".join(labels.releasableto),
    }
    more = ", ".join(f"{name} {words}" for name, words in others.items() if words)
    return f"{labels.dataclassification} ({more})" if more else labels.dataclassification


def from_to(before: int | None, after: int | None) -> str:
    """A number before and after; a dash where it is not known or nothing."""
    return f"{before or 0:,} → {after or 0:,}" if before or after else "-"


def lines_of(simulation: Simulation) -> list[str]:
    """What it rests on, and what it comes to, in lines."""
    lines = []
    for part, tally in tallies_of(simulation).items():
        if tally.decided == 0:
            continue
        tried = _tried(tally)
        lines.append(
            f"{_PARTS[part]}: {tried}{tally.gains:,} gain, {tally.loses:,} lose, {tally.differs:,} differ"
        )
    volumes = simulation.volumes.values()
    handed_out, withheld = (
        sum(getattr(each, name) for each in volumes) for name in ("handed_out", "withheld")
    )
    rests = f"taken from {handed_out:,} deliveries and {withheld:,} withheld decisions of the ledger"
    if any(each.stored is not None for each in volumes):
        rests += f", and {counted(sum(each.stored or 0 for each in volumes), 'stored record')}"
    lines.append(rests)
    if cut := sorted(owner for owner, volume in simulation.volumes.items() if volume.cut):
        lines.append(f"more was recorded or stored than is looked at: {', '.join(cut)}")
    return lines + list(simulation.notes)


def _tried(tally: Tally) -> str:
    if tally.decided is None or tally.possible is None:
        return ""
    if tally.possible > tally.decided:
        return f"{tally.decided:,} of {counted(tally.possible, 'combination')} decided: "
    return f"{counted(tally.decided, 'combination')} decided: "


def tallies_of(simulation: Simulation) -> Mapping[str, Tally]:
    """All owners' counts together, by part."""
    from broker.core.simulate.model import Part, Tally

    found = {}
    for part in Part:
        each = [volume.tallies[part] for volume in simulation.volumes.values() if part in volume.tallies]
        told = all(tally.decided is not None for tally in each)
        found[part.value] = Tally(
            sum(tally.possible or 0 for tally in each) if told else None,
            sum(tally.decided or 0 for tally in each) if told else None,
            sum(tally.gains for tally in each),
            sum(tally.loses for tally in each),
            sum(tally.differs for tally in each),
        )
    return found


def as_object(simulation: Simulation) -> dict[str, object]:
    """The whole simulation for programs."""
    return {
        "before": simulation.before or None,
        "after": simulation.after or None,
        "agencies": [
            {
                "owner": reach.owner,
                "consumer": reach.consumer,
                "topic": reach.topic,
                "recorded": {"before": reach.recorded_before, "after": reach.recorded_after},
                "stored": {"before": reach.stored_before, "after": reach.stored_after},
            }
            for reach in simulation.reaches
        ],
        "rows": [_row(row) for row in simulation.rows],
        "owners": [
            {
                "owner": owner,
                "handed_out": volume.handed_out,
                "withheld": volume.withheld,
                "stored": volume.stored,
                "cut": volume.cut,
                "combinations": {part.value: _tally(tally) for part, tally in volume.tallies.items()},
            }
            for owner, volume in simulation.volumes.items()
        ],
        "notes": list(simulation.notes),
    }


def _tally(tally: Tally) -> dict[str, object]:
    return {
        "possible": tally.possible,
        "decided": tally.decided,
        "gain": tally.gains,
        "lose": tally.loses,
        "differ": tally.differs,
    }


def _row(row: Row) -> dict[str, object]:
    subject, record = row.combination.subject, row.combination.record
    return {
        "owner": record.owner,
        "consumer": subject.agency,
        "roles": list(subject.roles),
        "attributes": dict(subject.attributes),
        "purpose": subject.purpose,
        "topic": record.topic,
        "type": record.type,
        "labels": record.labels.as_input(),
        "part": row.part.value,
        "change": row.shift.value,
        "before": _outcome(row.before),
        "after": _outcome(row.after),
        "details": [{"what": each.what, "before": each.before, "after": each.after} for each in row.details],
        "recorded": {"handed_out": row.handed_out, "withheld": row.withheld},
        "stored": None
        if row.stored is None
        else {"records": row.stored, "before": row.stored_before, "after": row.stored_after},
        "example": None
        if row.example is None
        else {"source": row.example.source, "id": row.example.id, "time": format_ms(row.example.time_ms)},
    }


def _outcome(outcome: Outcome) -> dict[str, object]:
    from broker.core.rulebook.cases.run import show_treatment

    moments = {"not_before": outcome.not_before, "valid_until": outcome.valid_until}
    return {
        "effect": None if outcome.effect is None else outcome.effect.value,
        "treatments": {name: show_treatment(each) for name, each in outcome.treatments.items()},
        "obligations": list(outcome.obligations),
        **{name: None if moment is None else moment.isoformat() for name, moment in moments.items()},
    }
