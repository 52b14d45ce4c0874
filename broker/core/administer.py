"""Who may change, suspend, withdraw, read and explain: the rulebook in force says so (package entente.admin)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from broker.core.answers import Answer, answers_to
from broker.core.audit.view import Scope
from broker.core.decide import Question, Ruling
from broker.core.in_force import InForce, Order
from broker.core.questions import administer_question
from broker.core.regime import Regime
from broker.core.restrictions import require_caller
from broker.errors import EntenteError, Reason
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


class AdminAccess:
    """Asks the revision in force. All methods raise EntenteError POLICY_UNAVAILABLE, SUSPENDED for who is, and what the
    identity check raises for who would not be let in any more.

    What somebody did who is suspended now does not count either, as author or by approving: whoever takes a stolen token's
    holder out of the exchange must not find that a change goes through in that name.
    """

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
        order = self._in_force.present
        question = self._question(order, principal, verb, areas, author, approvals, about)
        (answer,) = answers = await self._ask(order, principal, [question])
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
        order = self._in_force.present
        question = self._question(order, principal, verb, areas, author, approvals)
        (answer,) = await self._ask(order, principal, [question])
        return () if answer.permitted else answer.decision.reasons

    async def scope(self, principal: Principal, verb: Reading = "read") -> Scope:
        """Whose eyes the principal has: everything, or its own agency's part. Raises ADMINISTRATION_DENIED."""
        owners = (EVERYBODY, principal.agency)
        questions = [administer_question(principal, verb, about={"owner": owner}) for owner in owners]
        everything, own = answers = await self._ask(self._in_force.present, principal, questions)
        if everything.permitted:
            return Scope()
        if own.permitted:
            return Scope(principal.agency)
        raise _denied(answers)

    def _question(
        self,
        order: Order[Regime],
        principal: Principal,
        verb: Verb,
        areas: Sequence[Pair],
        author: Pair | None,
        approvals: Sequence[Pair],
        about: Mapping[str, str] | None = None,
    ) -> Question:
        now_ms = self._clock.now_ms()

        def counts(person: Pair) -> bool:
            return order.judge.principal_suspended(*person, now_ms) is None

        author = author if author is not None and counts(author) else None
        return administer_question(principal, verb, areas, author, filter(counts, approvals), about)

    async def _ask(
        self, order: Order[Regime], principal: Principal, questions: Sequence[Question]
    ) -> list[Answer]:
        regime = order.regime
        await regime.identity.confirm(principal)
        require_caller(order, principal, self._clock.now_ms())
        return await answers_to(questions, regime.decider, self._clock)


def _denied(answers: Sequence[Answer]) -> EntenteError:
    """Why goes into the ledger only."""
    return EntenteError(Reason.ADMINISTRATION_DENIED, decisions=tuple(answer.ruling for answer in answers))
