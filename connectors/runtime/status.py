"""What the runtime tells of its connectors: the form that control answers with and metrics are made of."""

from __future__ import annotations

from dataclasses import dataclass

from connectors.runtime.model import Direction, State
from connectors.runtime.progress import Progress


@dataclass(frozen=True, slots=True)
class TaskStatus:
    """One task; times are seconds of the Unix epoch.

    since_s: when it came to be in `state`. cause: one line why it failed, the last time; None while nothing did, and
    again once it works. retry_at_s: when it starts again by itself; None where it does not. stalled: it runs, and
    moved nothing for as long as the watchdog bears.
    """

    number: int
    state: State
    since_s: float
    cause: str | None
    retry_at_s: float | None
    stalled: bool
    progress: Progress


@dataclass(frozen=True, slots=True)
class ConnectorStatus:
    """One connector. wanted: RUNNING, PAUSED or STOPPED, which outlives the process; topic: the exchange's.

    cause: one line why it is FAILED, DEGRADED or RESTARTING; None otherwise.
    """

    name: str
    plugin: str
    direction: Direction
    topic: str
    state: State
    wanted: State
    cause: str | None
    tasks: tuple[TaskStatus, ...]

    @property
    def total(self) -> Progress:
        """Counters of all tasks added up, the largest age, the latest success."""
        each = [task.progress for task in self.tasks]
        records = [one.lag_records for one in each if one.lag_records is not None]
        return Progress(
            records=sum(one.records for one in each),
            bytes=sum(one.bytes for one in each),
            failed=sum(one.failed for one in each),
            skipped=sum(one.skipped for one in each),
            dead_lettered=sum(one.dead_lettered for one in each),
            retries=sum(one.retries for one in each),
            restarts=sum(one.restarts for one in each),
            lag_records=sum(records) if records else None,
            lag_s=max((one.lag_s for one in each if one.lag_s is not None), default=None),
            last_success_s=max(
                (one.last_success_s for one in each if one.last_success_s is not None), default=None
            ),
        )
