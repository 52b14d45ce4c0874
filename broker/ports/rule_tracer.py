"""What decided: the rules of a revision that took part in one decision, where they stand, and what they read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from broker.model.rulebook import Revision
from broker.ports.policy_engine import Item


@dataclass(frozen=True, slots=True)
class RuleUse:
    """A rule that held: file inside the rulebook and line, and its name with its package, without `data.`."""

    file: str
    line: int
    rule: str


@dataclass(frozen=True, slots=True)
class Trace:
    """One decision made again. output: None if the rules gave none. reads: roots of the data, sorted, as `agreements`."""

    output: dict[str, object] | None
    rules: tuple[RuleUse, ...]
    reads: tuple[str, ...]


class RuleTracer(Protocol):
    """Makes one decision in slow motion, apart from all that decides for anybody."""

    async def trace(self, revision: Revision, item: Item) -> Trace:
        """Each rule once, in the order in which they first held. Raises NoDecision if it does not come to an end in time."""
