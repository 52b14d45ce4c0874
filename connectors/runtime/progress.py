"""What a task has done and how far behind it is: counted by the task, read by status and metrics."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass(slots=True)
class Progress:
    """Counters since the runtime began, and gauges; times are seconds of the Unix epoch.

    records, bytes: moved, that is, acknowledged by the exchange or committed on the agency's side. failed, skipped,
    dead_lettered: records that could not be moved, by what became of them. retries: attempts beyond the first.
    lag_records: records still to be read at the source, None where that must not be known (a sink). lag_s: age of what
    waits; 0 when nothing does. last_success_s: when records were last moved, or known to be none; None before.
    """

    records: int = 0
    bytes: int = 0
    failed: int = 0
    skipped: int = 0
    dead_lettered: int = 0
    retries: int = 0
    restarts: int = 0
    lag_records: int | None = None
    lag_s: float | None = None
    last_success_s: float | None = field(default=None)

    def moved(self, records: int, size_bytes: int) -> None:
        """Count what has arrived for good."""
        self.records += records
        self.bytes += size_bytes
        self.idle()

    def idle(self) -> None:
        """Nothing was there to be moved, which is a success too; to be told at least once a minute while that is so."""
        self.last_success_s = time.time()
