"""A revision on trial: it is run to see what it does, and nobody receives anything from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from broker.model.decision import Decision
from broker.model.rulebook import Revision
from broker.ports.policy_engine import Item


class TrialFailed(Exception):
    """The revision could not be put on trial; one line."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One item, decided alone. decision: None if the output is not well-formed. duration_ns: what deciding it took."""

    decision: Decision | None
    duration_ns: int


@dataclass(frozen=True, slots=True)
class Cost:
    """How long one line of a module took, in all of a decision."""

    file: str
    line: int
    duration_ns: int


class Verdict(StrEnum):
    """What became of one Rego test."""

    PASSED = "passed"
    FAILED = "failed"
    ERROR = "error"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class RegoTest:
    """One `test_…` rule. detail: for a failure, what the engine shows of it; several lines."""

    file: str
    line: int
    name: str
    verdict: Verdict
    detail: str = ""


class RulebookTrial(Protocol):
    """Runs one revision that has passed the compiler's checks."""

    async def evaluate(self, item: Item) -> Evaluation:
        """The decision on one item, whether or not the input schema allows it, and its time.

        Raises NoDecision if the engine gives none in time.
        """

    async def decide(self, items: Sequence[Item]) -> Mapping[str, Decision]:
        """As PolicyEngine.decide, for up to `batch_items` items that need not be of the input schema."""

    async def profile(self, item: Item) -> Sequence[Cost]:
        """The lines on which deciding one item spends its time, the most expensive first; empty if that is unknown."""

    async def run_tests(self) -> Sequence[RegoTest]:
        """Every Rego test of the revision; nothing is decided any more after it.

        Raises TrialFailed if they cannot be run, or not in time.
        """

    async def close(self) -> None:
        """End the trial; idempotent."""


class TrialEngines(Protocol):
    """Starts trials."""

    async def start(self, revision: Revision) -> RulebookTrial:
        """Raises TrialFailed if the engine does not come up on the revision."""
