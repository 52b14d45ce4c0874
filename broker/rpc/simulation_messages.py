"""Simulations as messages of the service Rulebook."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from broker.core.simulate.model import Outcome, Part, Reach, Row, Shift, Simulation, Volume
from protos.entente.v1 import rulebook_pb2 as pb

ROWS = 500
"""Rows, reaches and volumes of one message, at some hundred bytes each."""

PARTS = {
    Part.RECORDED: pb.SIMULATION_PART_RECORDED,
    Part.STORED: pb.SIMULATION_PART_STORED,
    Part.WHAT_IF: pb.SIMULATION_PART_WHAT_IF,
}
SHIFTS = {
    Shift.GAINS: pb.SIMULATION_SHIFT_GAINS,
    Shift.LOSES: pb.SIMULATION_SHIFT_LOSES,
    Shift.DIFFERS: pb.SIMULATION_SHIFT_DIFFERS,
}


def responses(simulation: Simulation) -> Iterator[pb.SimulateResponse]:
    """The summary, in as many messages as it takes, then the rows."""
    volumes = list(simulation.volumes.items())
    for first in range(0, max(1, len(simulation.reaches), len(volumes)), ROWS):
        summary = pb.SimulationSummary(
            before=simulation.before,
            after=simulation.after,
            reaches=map(_reach, simulation.reaches[first : first + ROWS]),
            volumes=[_volume(owner, volume) for owner, volume in volumes[first : first + ROWS]],
            notes=() if first else simulation.notes,
        )
        yield pb.SimulateResponse(summary=summary)
    for first in range(0, len(simulation.rows), ROWS):
        rows = pb.SimulationRows(rows=map(_row, simulation.rows[first : first + ROWS]))
        yield pb.SimulateResponse(rows=rows)


def _reach(reach: Reach) -> pb.SimulationReach:
    return pb.SimulationReach(
        owner=reach.owner,
        consumer=reach.consumer,
        topic=reach.topic,
        recorded_before=reach.recorded_before,
        recorded_after=reach.recorded_after,
        stored_before=reach.stored_before,
        stored_after=reach.stored_after,
    )


def _volume(owner: str, volume: Volume) -> pb.SimulationVolume:
    return pb.SimulationVolume(
        owner=owner,
        handed_out=volume.handed_out,
        withheld=volume.withheld,
        stored=volume.stored,
        cut=volume.cut,
        tallies=[
            pb.SimulationTally(
                part=PARTS[part],
                possible=tally.possible,
                decided=tally.decided,
                gains=tally.gains,
                loses=tally.loses,
                differs=tally.differs,
            )
            for part, tally in volume.tallies.items()
        ],
    )


def _row(row: Row) -> pb.SimulationRow:
    subject, record, labels = row.combination.subject, row.combination.record, row.combination.record.labels
    shown = pb.SimulationRow(
        part=PARTS[row.part],
        consumer=subject.agency,
        roles=subject.roles,
        attributes=dict(subject.attributes),
        purpose=subject.purpose,
        topic=record.topic,
        type=record.type,
        owner=record.owner,
        labels=pb.SimulationLabels(
            dataclassification=labels.dataclassification,
            dataregulation=labels.dataregulation,
            datacategory=labels.datacategory,
            purposes=labels.purposes,
            releasableto=labels.releasableto,
        ),
        shift=SHIFTS[row.shift],
        before=_outcome(row.before),
        after=_outcome(row.after),
        details=[pb.SimulationDetail(what=d.what, before=d.before, after=d.after) for d in row.details],
        handed_out=row.handed_out,
        withheld=row.withheld,
        stored=row.stored,
        stored_before=row.stored_before,
        stored_after=row.stored_after,
    )
    if row.example is not None:
        shown.example.source, shown.example.id = row.example.source, row.example.id
        shown.example.time.FromMilliseconds(row.example.time_ms)
    return shown


def _outcome(outcome: Outcome) -> pb.SimulationOutcome:
    return pb.SimulationOutcome(
        effect="" if outcome.effect is None else outcome.effect.value,
        treatments={
            marking: pb.SimulationTreatment(
                kind=each.kind.value, keep_first=each.keep_first, keep_last=each.keep_last
            )
            for marking, each in outcome.treatments.items()
        },
        obligations=outcome.obligations,
        not_before=_moment(outcome.not_before),
        valid_until=_moment(outcome.valid_until),
    )


def _moment(instant: datetime | None) -> Timestamp | None:
    if instant is None:
        return None
    moment = Timestamp()
    moment.FromDatetime(instant.astimezone(UTC))
    return moment
