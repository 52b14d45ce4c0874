"""Who may change, suspend, withdraw, read and explain: the rulebook in force says so (package entente.admin)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from broker.core.audit.view import Scope
from broker.core.decide import Question, Ruling
from broker.core.in_force import InForce
from broker.core.questions import administer_question
from broker.core.regime import Regime
from broker.errors import EntenteError, NoDecision, Reason
from broker.model.principal import Principal
from broker.ports.clock import Clock

Pair = tuple[str, str]
"""An area as (kind, owner), or a person as (agency, subject id)."""

Verb = Literal[
    "propose",
    "approve",
    "reject",
    "activate",
    "rollback",
    "simulate",
    "read",
    "explain",
    "suspend",
    "ratify",
    "lift",
    "withdraw",
]
Reading = Literal["read", "explain", "simulate"]

EVERYBODY = ""
"""`about["owner"]` of what is about all of the exchange."""


@dataclass(frozen=True, slots=True)
class _Answer:
    ruling: Ruling
    reasons: tuple[str, ...]
    permitted: bool


class AdminAccess:
    """Asks the revision in force. All methods raise EntenteError POLICY_UNAVAILABLE."""

    def __init__(self, in_force: InForce[Regime], clock: Clock) -> None:
        self._in_force = in_force
        self._clock = clock

    async def require(
        self,
        principal: Principal,
        verb: Verb,
        areas: Sequence[Pair] = (),
        author: Pair | None = None,
        approvals: Sequence[Pair] = (),
        about: Mapping[str, str] | None = None,
    ) -> tuple[Ruling, ...]:
        """The decisions by which the principal may do that.

        areas: what the change touches. author: of the change, or whoever suspended. approvals: who approved exactly this
        change. about: `owner` is whose records or part it is about, for every verb that is about no change.
        Raises ADMINISTRATION_DENIED; why goes into the ledger only.
        """
        (answer,) = answers = await self._ask(
            [administer_question(principal, verb, areas, author, approvals, about)]
        )
        if not answer.permitted:
            raise _denied(answers)
        return (answer.ruling,)

    async def missing(
        self,
        principal: Principal,
        verb: Verb,
        areas: Sequence[Pair],
        author: Pair | None,
        approvals: Sequence[Pair],
    ) -> tuple[str, ...]:
        """Why the principal may not do that, such as "approval-missing: exchange", sorted; empty if it may.

        Only for who may see the change; it says which administrators have not approved, and nothing about a rule's content.
        """
        (answer,) = await self._ask([administer_question(principal, verb, areas, author, approvals)])
        return () if answer.permitted else answer.reasons

    async def scope(self, principal: Principal, verb: Reading = "read") -> Scope:
        """Whose eyes the principal has: everything, or its own agency's part. Raises ADMINISTRATION_DENIED."""
        owners = (EVERYBODY, principal.agency)
        questions = [administer_question(principal, verb, about={"owner": owner}) for owner in owners]
        everything, own = answers = await self._ask(questions)
        if everything.permitted:
            return Scope()
        if own.permitted:
            return Scope(principal.agency)
        raise _denied(answers)

    async def _ask(self, questions: Sequence[Question]) -> list[_Answer]:
        regime = self._in_force.present.regime
        try:
            decisions = await regime.decider.decide(questions)
        except NoDecision:
            raise EntenteError(Reason.POLICY_UNAVAILABLE) from None
        now = datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC)
        answers = []
        for question, decision in zip(questions, decisions, strict=True):
            if decision is None:
                raise EntenteError(Reason.POLICY_UNAVAILABLE)
            ruling = Ruling.of(question, decision, regime.rules)
            permitted = decision.permitted and decision.holds_at(now)
            answers.append(_Answer(ruling, tuple(decision.reasons), permitted))
        return answers


def _denied(answers: Sequence[_Answer]) -> EntenteError:
    """Why goes into the ledger only."""
    return EntenteError(Reason.ADMINISTRATION_DENIED, decisions=tuple(answer.ruling for answer in answers))
