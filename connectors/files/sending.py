"""Publishes one batch of a file's records: maps them, tells refusals from outages, and treats what was refused."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

from connectors.errors import Suspended, Unauthenticated
from connectors.files.pieces import Piece
from connectors.mapping.mapper import Mapper
from connectors.mapping.record import AgencyRecord, Unmappable
from connectors.publishing import PublishOutcome
from connectors.retry import Retry
from connectors.runtime.model import ConnectorFailed
from connectors.runtime.plugin import TaskContext
from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent


@dataclass(frozen=True, slots=True)
class Mapped:
    """A piece with what it became: an event, or the cause why it is none. Neither: it is passed over."""

    piece: Piece
    event: CloudEvent | None
    cause: str | None


def map_pieces(mapper: Mapper, pieces: Sequence[Piece], most_bytes: int) -> list[Mapped]:
    """Blocking only for the time that it takes."""
    return [_mapped(mapper, piece, most_bytes) for piece in pieces]


def map_record(mapper: Mapper, record: AgencyRecord) -> tuple[CloudEvent | None, str | None]:
    """The event, or the cause why there is none."""
    try:
        return mapper.map(record), None
    except Unmappable as refused:
        return None, refused.cause


async def publish(
    task: TaskContext, topic: str, events: Sequence[CloudEvent], retry: Retry
) -> list[PublishOutcome]:
    """One outcome an event, in order, none of them for a reason that passes: such events are sent again.

    Raises ConnectorFailed when that goes on for too long, and EntenteClientError.
    """
    found = await task.exchange.publish(topic, events)
    for pause_s in retry.pauses_s():
        again = [number for number, outcome in enumerate(found) if outcome.retryable]
        if not again or task.gate.stopping:
            break
        task.progress.retries += 1
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(task.gate.changed(), pause_s)
        repeated = await task.exchange.publish(topic, [events[number] for number in again])
        for number, outcome in zip(again, repeated, strict=True):
            found[number] = outcome
    for outcome in found:
        error = outcome.error()
        if error is not None and (outcome.retryable or isinstance(error, Suspended | Unauthenticated)):
            raise ConnectorFailed(f"topic {topic}: {error}")
    return found


def refusal(outcome: PublishOutcome) -> str | None:
    """Why a record was refused, in one line; None if it was not."""
    error = outcome.error()
    return None if error is None else " ".join(str(error).split())


def _mapped(mapper: Mapper, piece: Piece, most_bytes: int) -> Mapped:
    record = piece.record()
    if record is None:
        return Mapped(
            piece, None, f"RECORD_TOO_LARGE: it has more than {most_bytes} bytes (max_record_bytes)"
        )
    return Mapped(piece, *map_record(mapper, record))
