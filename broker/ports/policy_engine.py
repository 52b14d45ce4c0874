"""The policy engine: asks one revision of the rulebook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from broker.model.decision import Decision

Item = Mapping[str, object]
"""One input item: id, action, subject, topic, record, time (see policy/schemas/input.schema.json)."""


class PolicyEngine(Protocol):
    """Answers for exactly one revision."""

    @property
    def revision(self) -> str:
        """The revision's id."""

    @property
    def version(self) -> str:
        """The engine's name and version, as the ledger names it."""

    async def decide(self, items: Sequence[Item]) -> Mapping[str, Decision]:
        """Decisions by item id. An item without a well-formed decision is absent from the result.

        Raises NoDecision when the whole batch has none: down, past its deadline, malformed, another revision.
        """

    async def close(self) -> None:
        """Stop the engine; idempotent."""
