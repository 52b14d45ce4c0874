"""Where a source begins in a partition: behind what its group has committed, or where it is told to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from connectors.runtime.model import ConnectorFailed

Start = Literal["earliest", "latest"]


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a partition holds: offsets of its first record and behind its last."""

    first: int
    end: int


@dataclass(frozen=True, slots=True)
class Committed:
    """What the group has committed for a partition; topic_id: of the topic at that time, empty if it is unknown."""

    offset: int
    topic_id: str = ""


def first_position(
    place: str,
    committed: Committed | None,
    topic_id: str,
    bounds: Bounds,
    *,
    on_out_of_range: Literal["fail", "earliest", "latest"],
) -> int:
    """The offset to begin at.

    place: the partition, for people. One of which the group has committed nothing is read from its beginning: a group that
    begins at the latest record commits that of all partitions before it begins, so this one was made later.
    Raises ConnectorFailed (lasting) if the next record is gone and nobody has said what to do then.
    """
    if committed is None:
        return bounds.first
    if committed.topic_id and topic_id and committed.topic_id != topic_id:
        return bounds.first  # deleted and made again: nothing of it has been read
    if bounds.first <= committed.offset <= bounds.end:
        return committed.offset
    if on_out_of_range == "fail":
        raise ConnectorFailed(
            f"{place}: the next record, at offset {committed.offset}, is gone; offsets {bounds.first} to {bounds.end}"
            ' are there: move it with "offsets alter", or set read.on_out_of_range',
            lasting=True,
        )
    return bounds.first if on_out_of_range == "earliest" else bounds.end
