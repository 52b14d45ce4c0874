"""Limits of the policy engine."""

from __future__ import annotations

from dataclasses import dataclass, replace

_HELD_PER_BYTE = 8
"""So many bytes of memory OPA holds for each byte of JSON, measured with a million agreements; loading takes half more."""
_LOADED_BYTES_PER_S = 1024 * 1024
"""A thirtieth of what was measured: the machine may be busy."""
_GARBAGE_BYTES = 1024**3
"""About so much may lie about between two runs of Go's collector."""
_MOST_GARBAGE_PERCENT = 400


@dataclass(frozen=True, slots=True)
class OpaSettings:
    """Limits of one OPA child and of the questions to it.

    start_timeout_s: from launch to the first right answer.
    deadline_s: for one batch; past it the batch has no decision.
    stuck_after_s: an OPA that was asked and has answered nothing for so long is killed and started again.
    batch_items: the most items in one call.
    answer_limit_bytes: the most that is read of one answer.
    memory_limit_bytes: OPA's data segment; Go's collector is told to stay below seven eighths of it.
    garbage_percent: how much garbage, measured by what is in use, is left until it is collected. Collecting seldom saves
    a third of a decision's time (measured).
    restart_first_s, restart_most_s: the wait before a restart, doubling from first to most while it keeps failing.
    """

    start_timeout_s: float = 30.0
    deadline_s: float = 2.0
    stuck_after_s: float = 10.0
    batch_items: int = 500
    answer_limit_bytes: int = 16 * 1024 * 1024
    memory_limit_bytes: int = 4 * 1024**3
    garbage_percent: int = _MOST_GARBAGE_PERCENT
    restart_first_s: float = 0.05
    restart_most_s: float = 5.0

    def for_data(self, size_bytes: int) -> OpaSettings:
        """These settings for a rulebook with so many bytes of data, as JSON: what it takes comes on top."""
        held_bytes = _HELD_PER_BYTE * size_bytes
        affordable_percent = 100 * _GARBAGE_BYTES // max(1, held_bytes)
        return replace(
            self,
            start_timeout_s=self.start_timeout_s + size_bytes // _LOADED_BYTES_PER_S,
            memory_limit_bytes=self.memory_limit_bytes + held_bytes * 3 // 2,
            garbage_percent=max(25, min(self.garbage_percent, affordable_percent)),
        )
