"""Limits of the policy engine."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OpaSettings:
    """Limits of one OPA child and of the questions to it.

    start_timeout_s: from launch to the first right answer; a rulebook of a million agreements takes a few seconds.
    deadline_s: for one batch; past it the batch has no decision.
    stuck_after_s: an OPA that was asked and has answered nothing for so long is killed and started again.
    batch_items: the most items in one call.
    answer_limit_bytes: the most that is read of one answer.
    memory_limit_bytes: OPA's data segment; Go's collector is told to stay below seven eighths of it.
    restart_first_s, restart_most_s: the wait before a restart, doubling from first to most while it keeps failing.
    """

    start_timeout_s: float = 30.0
    deadline_s: float = 2.0
    stuck_after_s: float = 10.0
    batch_items: int = 500
    answer_limit_bytes: int = 16 * 1024 * 1024
    memory_limit_bytes: int = 4 * 1024**3
    restart_first_s: float = 0.05
    restart_most_s: float = 5.0
