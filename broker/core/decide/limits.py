"""Limits of decision making."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DeciderLimits:
    """Bounds on memory, work and waiting.

    memo_entries, memo_bytes: deliver decisions that are remembered, and the bytes of their keys.
    personal_entries: publish and subscribe decisions that are remembered; apart, so that people cannot crowd classes out.
    batch_items: the most items in one call of the engine.
    lane_questions: the most open questions of one owner about one agency's people; more have no decision now.
    lanes: pairs of owner and subject's agency that are kept; idle ones are dropped beyond it.
    wait_s: how long a caller waits; the engine's answer is remembered even if it comes later.
    label_sets_per_minute, label_sets_known: the quota of new label sets of one owner, and how many are known at a time.
    tick_ms: the granularity of `time`, whole seconds.
    isolate_calls: the most engine calls spent on finding the broken items of one failed batch.
    rest_s: how long such a pair's questions are not asked after the engine failed on one.
    rest_most_s: the same where the engine goes down again and again with these questions; doubles from rest_s.
    strike_spacing_s: two failures of one item count as two only if they lie this far apart.
    fault_hold_s: how long an `engine_fault` stands before the item is asked again.
    """

    memo_entries: int = 100_000
    memo_bytes: int = 128 * 1024 * 1024
    personal_entries: int = 10_000
    batch_items: int = 500
    lane_questions: int = 10_000
    lanes: int = 10_000
    wait_s: float = 1.0
    label_sets_per_minute: int = 1_000
    label_sets_known: int = 20_000
    tick_ms: int = 1_000
    isolate_calls: int = 64
    rest_s: float = 0.5
    rest_most_s: float = 30.0
    strike_spacing_s: float = 0.25
    fault_hold_s: float = 60.0
