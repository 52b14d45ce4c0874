"""What an exchange answers about a proposal's simulation, put together again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from broker.core.simulate.model import (
    Combination,
    Detail,
    Example,
    Outcome,
    Reach,
    RecordKind,
    Row,
    Simulation,
    Tally,
    Volume,
)
from broker.model.audit import Progress, ProgressCallback
from broker.model.decision import Effect, Treatment, TreatmentKind
from broker.model.labels import Labels
from broker.model.principal import SubjectClass
from broker.rpc.simulation_messages import PARTS, SHIFTS
from protos.entente.v1 import rulebook_pb2 as pb

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from google.protobuf.timestamp_pb2 import Timestamp

_PARTS = {number: part for part, number in PARTS.items()}
_SHIFTS = {number: shift for shift, number in SHIFTS.items()}


async def collected(
    responses: AsyncIterator[pb.SimulateResponse], progress: ProgressCallback | None
) -> Simulation | None:
    """The simulation; None if there was no summary, which an exchange always sends."""
    summary: pb.SimulationSummary | None = None
    rows: list[Row] = []
    async for response in responses:
        match response.WhichOneof("part"):
            case "progress" if progress is not None:
                told = response.progress
                progress(Progress(told.stage, told.done, told.total or None))
            case "summary":
                summary = summary or pb.SimulationSummary()
                summary.MergeFrom(response.summary)
            case "rows":
                rows += map(_row, response.rows.rows)
    return None if summary is None else _simulation(summary, rows)


def _simulation(summary: pb.SimulationSummary, rows: list[Row]) -> Simulation:
    return Simulation(
        summary.before,
        summary.after,
        None,
        tuple(rows),
        tuple(map(_reach, summary.reaches)),
        {each.owner: _volume(each) for each in summary.volumes},
        tuple(summary.notes),
    )


def _reach(reach: pb.SimulationReach) -> Reach:
    names = ("recorded_before", "recorded_after", "stored_before", "stored_after")
    return Reach(reach.owner, reach.consumer, reach.topic, *(_number(reach, name) for name in names))


def _volume(volume: pb.SimulationVolume) -> Volume:
    tallies = {
        _PARTS[each.part]: Tally(
            _number(each, "possible"), _number(each, "decided"), each.gains, each.loses, each.differs
        )
        for each in volume.tallies
    }
    return Volume(volume.handed_out, volume.withheld, _number(volume, "stored"), tallies, volume.cut)


def _row(row: pb.SimulationRow) -> Row:
    subject = SubjectClass(row.consumer, tuple(row.roles), tuple(sorted(row.attributes.items())), row.purpose)
    labels = Labels(
        row.labels.dataclassification,
        tuple(row.labels.dataregulation),
        row.labels.datacategory,
        tuple(row.labels.purposes),
        tuple(row.labels.releasableto),
    )
    example = row.example
    return Row(
        _PARTS[row.part],
        Combination(subject, RecordKind(row.topic, row.type, row.owner, labels)),
        _SHIFTS[row.shift],
        _outcome(row.before),
        _outcome(row.after),
        tuple(Detail(each.what, _text(each, "before"), _text(each, "after")) for each in row.details),
        row.handed_out,
        row.withheld,
        _number(row, "stored"),
        _number(row, "stored_before"),
        _number(row, "stored_after"),
        Example(example.source, example.id, example.time.ToMilliseconds())
        if row.HasField("example")
        else None,
    )


def _outcome(outcome: pb.SimulationOutcome) -> Outcome:
    return Outcome(
        Effect(outcome.effect) if outcome.effect else None,
        {
            marking: Treatment(TreatmentKind(each.kind), each.keep_first, each.keep_last)
            for marking, each in sorted(outcome.treatments.items())
        },
        {},
        tuple(outcome.obligations),
        _moment(outcome.not_before) if outcome.HasField("not_before") else None,
        _moment(outcome.valid_until) if outcome.HasField("valid_until") else None,
    )


def _moment(moment: Timestamp) -> datetime:
    return moment.ToDatetime(UTC)


def _number(message: Message, name: str) -> int | None:
    return int(getattr(message, name)) if message.HasField(name) else None


def _text(message: Message, name: str) -> str | None:
    return str(getattr(message, name)) if message.HasField(name) else None
