"""What the instances of one exchange agree on through the control log: events in one total order, and beats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from broker.model.ledger import JsonValue


@dataclass(frozen=True, slots=True)
class ControlEvent:
    """Something that every instance has to learn, in the same order as all others. docs/control.md lists the kinds.

    instance: who wrote it. body: JSON, at most 512 KiB as it is stored; never a payload, a token or a key.
    """

    kind: str
    time_ms: int
    instance: str
    body: Mapping[str, JsonValue]


@dataclass(frozen=True, slots=True)
class Beat:
    """An instance's sign of life, the newest of which counts.

    run: random, another one for each start of the instance. number: rises with each beat of a run. applied: the position of
    the newest event that it has applied: nothing that it releases from now on is released under what was in force before.
    """

    instance: str
    run: str
    number: int
    applied: int


@dataclass(frozen=True, slots=True)
class Heard:
    """One entry of the control log. Positions rise, and are not consecutive."""

    position: int
    content: ControlEvent | Beat
