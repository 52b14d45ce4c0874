"""The words of the runtime: states, offsets, and what a task tells of its work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

Direction = Literal["source", "sink"]
OffsetField = Mapping[str, str | int]


class State(StrEnum):
    """Of a task or a connector, in Kafka Connect's words; DEGRADED is a connector's only.

    DEGRADED: some of its tasks have failed and others work, or it lags ever more and gets nowhere.
    """

    UNASSIGNED = "UNASSIGNED"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    STOPPED = "STOPPED"
    FAILED = "FAILED"
    RESTARTING = "RESTARTING"
    DEGRADED = "DEGRADED"


@dataclass(frozen=True, slots=True)
class Offset:
    """How far a connector has come in one partition of what it reads, as in Kafka Connect (KIP-875).

    partition: which, for example {"topic": "crashes", "partition": 0}. offset: where, for example {"offset": 42}, or
    None: not known, or, where offsets are altered, forget it.
    """

    partition: OffsetField
    offset: OffsetField | None


@dataclass(frozen=True, slots=True)
class Redriven:
    """What a redrive did: dead letters tried again, and how many of them were dead-lettered again."""

    tried: int = 0
    failed: int = 0


class ConnectorFailed(Exception):
    """Ends a task with one line: what is wrong, where, and what to do. Never with a record, a token or a secret in it.

    lasting: starting it again cannot help before somebody does something; otherwise it is, after a pause.
    """

    def __init__(self, cause: str, *, lasting: bool = False) -> None:
        super().__init__(cause)
        self.cause = cause
        self.lasting = lasting
