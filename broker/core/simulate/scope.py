"""What of a simulation somebody may see."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from broker.core.simulate.model import Combination, Part, Row, Shift, Simulation, Tally, Volume
from broker.model.principal import SubjectClass


def scoped(simulation: Simulation, agency: str | None) -> Simulation:
    """The part about one agency's own records, for its administrators; all of it for None.

    As in the ledger, an owner is told of those who receive its records by agency and purpose, and not of those from whom
    they are withheld in silence; nor how many roles and agencies there are that have nothing to do with it. Of a simulation
    that was not made for the agency alone, what counts others' part in it is left out.
    """
    if agency is None:
        return simulation
    mine = simulation.scope == agency
    rows = _merged(row for row in simulation.rows if row.combination.record.owner == agency)
    shifts = Counter((row.part, row.shift) for row in rows)
    reaches = (reach for reach in simulation.reaches if reach.owner == agency)
    return replace(
        simulation,
        scope=agency,
        rows=rows,
        reaches=tuple(
            reach if mine else replace(reach, recorded_before=None, recorded_after=None) for reach in reaches
        ),
        volumes={
            owner: _told(volume, shifts) for owner, volume in simulation.volumes.items() if owner == agency
        },
        notes=simulation.notes if mine else (),
    )


def with_examples_of(simulation: Simulation, agency: str | None) -> Simulation:
    """Without the examples of anybody's records but this agency's own."""
    rows = (
        row if row.combination.record.owner == agency else replace(row, example=None)
        for row in simulation.rows
    )
    return replace(simulation, rows=tuple(rows))


def _merged(rows: Iterable[Row]) -> tuple[Row, ...]:
    """One row for all classes of an agency and purpose for which the same changes, in the order of the first."""
    found: dict[tuple[object, ...], Row] = {}
    for row in rows:
        subject = SubjectClass(row.combination.subject.agency, (), (), row.combination.subject.purpose)
        told = replace(
            row,
            combination=Combination(subject, row.combination.record),
            part=_part_of(row),
            withheld=0,
        )
        key = (told.combination, told.shift, _outcomes(told), told.details)
        before = found.get(key)
        found[key] = told if before is None else _together(before, told)
    return tuple(found.values())


def _together(one: Row, other: Row) -> Row:
    order = list(Part)
    return replace(
        one,
        part=min(one.part, other.part, key=order.index),
        handed_out=one.handed_out + other.handed_out,
        stored_before=_most(one.stored_before, other.stored_before),
        stored_after=_most(one.stored_after, other.stored_after),
    )


def _outcomes(row: Row) -> tuple[object, ...]:
    """What the outcomes show, by value."""
    return tuple(
        (side.effect, tuple(side.treatments.items()), side.obligations, side.not_before, side.valid_until)
        for side in (row.before, row.after)
    )


def _most(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else max(one, other)


def _part_of(row: Row) -> Part:
    """Where a row comes from, for somebody who may not know of what was withheld."""
    if row.part is not Part.RECORDED or row.handed_out:
        return row.part
    return Part.STORED if row.stored else Part.WHAT_IF


def _told(volume: Volume, shifts: Counter[tuple[Part, Shift]]) -> Volume:
    tallies = {
        part: Tally(None, None, *(shifts[part, shift] for shift in (Shift.GAINS, Shift.LOSES, Shift.DIFFERS)))
        for part in volume.tallies
    }
    return replace(volume, withheld=0, tallies=tallies)
