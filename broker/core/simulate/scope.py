"""What of a simulation somebody may see."""

from __future__ import annotations

from dataclasses import replace

from broker.core.simulate.model import Part, Simulation, Tally


def scoped(simulation: Simulation, agency: str | None) -> Simulation:
    """The part about one agency's own records, for its administrators; all of it for None.

    Who was refused an owner's records in silence is none of the owner's business, nor how many agencies and roles there
    are that have nothing to do with it: of a simulation that was not made for the agency such counts are left out.
    """
    if agency is None:
        return simulation
    mine = simulation.scope == agency
    volumes = {
        owner: replace(
            volume,
            withheld=0,
            tallies={part: _told(part, tally, mine) for part, tally in volume.tallies.items()},
        )
        for owner, volume in simulation.volumes.items()
        if owner == agency
    }
    rows = (row for row in simulation.rows if row.combination.record.owner == agency)
    reaches = (reach for reach in simulation.reaches if reach.owner == agency)
    return replace(
        simulation,
        rows=tuple(
            replace(row, withheld=0, part=_part_without(row.part, row.handed_out, row.stored)) for row in rows
        ),
        reaches=tuple(
            reach if mine else replace(reach, recorded_before=None, recorded_after=None) for reach in reaches
        ),
        volumes=volumes,
        notes=simulation.notes if mine else (),
        scope=agency,
    )


def with_examples_of(simulation: Simulation, agency: str | None) -> Simulation:
    """Without the examples of anybody's records but this agency's own."""
    rows = (
        row if row.combination.record.owner == agency else replace(row, example=None)
        for row in simulation.rows
    )
    return replace(simulation, rows=tuple(rows))


def _told(part: Part, tally: Tally, mine: bool) -> Tally:
    return tally if mine and part is not Part.WHAT_IF else replace(tally, possible=None, decided=None)


def _part_without(part: Part, handed_out: int, stored: int | None) -> Part:
    """Where a row comes from, for somebody who may not know of what was withheld."""
    if part is not Part.RECORDED or handed_out:
        return part
    return Part.STORED if stored else Part.WHAT_IF
