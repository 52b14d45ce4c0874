"""Whether the rulebook could still be changed under a revision, tried with its own rules on its administrators.

The exchange can always correct what locks an agency out, and nobody can correct what locks the exchange out. So an agency
is tried with the administrators that the revision lists, and the exchange with those of them who are so already: a new one's
subject id may be misspelt.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice

from broker.core.decide import Question
from broker.core.questions import administer_question
from broker.core.rulebook.areas import Area
from broker.core.rulebook.findings import Finding, Severity
from broker.errors import NoDecision
from broker.model.decision import Decision, Effect
from broker.model.principal import Principal
from broker.model.registry import Registry
from broker.ports.rulebook_trial import RulebookTrial

EXCHANGE = "exchange"
"""The agency that runs the exchange."""

_ROLES = frozenset({"agency-admin", "exchange-admin"})
_AUTHORS = 10
"""So many authors are tried of each scope: rules that look at persons one by one are rare."""
_BATCH = 200
_NONE = Decision(Effect.WITHHOLD, reasons=("no-decision",))

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class _Scope:
    """What has to be changeable, by whom: authors in the order in which they are tried, then who could approve."""

    agency: str
    area: Area
    authors: tuple[Pair, ...]
    approvers: tuple[Pair, ...]


@dataclass(frozen=True, slots=True)
class _Attempt:
    """What came of one author: why it went wrong, None if it did not."""

    author: Pair
    why: str | None


async def lockouts(
    trial: RulebookTrial, registry: Registry, present: Registry | None = None, time: str | None = None
) -> list[Finding]:
    """An error for the exchange, and for each agency that has administrators now, if nothing of it could be changed.

    registry: of the revision on trial. present: of the one in force; without one, the revision stands for itself. time: at
    which to ask, if the revision depends on it. A warning if an agency could not change its own without the exchange.
    """
    scopes = _scopes(registry, present or registry)
    try:
        attempts = await _Attempts(trial, registry, time).of(scopes)
    except NoDecision:
        what = "it was not tried whether it could be changed again, since decisions take too long"
        return [Finding("rulebook", None, what, "correct what is slow first")]
    return list(_findings(scopes, attempts))


def _scopes(registry: Registry, present: Registry) -> list[_Scope]:
    listed = {
        agency: [(agency, subject) for subject in subjects]
        for agency, subjects in registry.administrators.items()
    }
    now = set(present.administrators.get(EXCHANGE, ()))
    staying = [each for each in listed.get(EXCHANGE, ()) if each[1] in now]
    scopes = [_Scope(EXCHANGE, Area("exchange"), tuple(staying[:_AUTHORS]), tuple(staying))]
    for agency in sorted(agency for agency, subjects in present.administrators.items() if subjects):
        if agency != EXCHANGE and agency in registry.agencies:
            own = listed.get(agency, [])
            authors = (*own[:_AUTHORS], *staying[:_AUTHORS])
            scopes.append(_Scope(agency, Area("module", agency), authors, tuple(own)))
    return scopes


class _Attempts:
    """Tries authors, the first of all scopes together, then the second of those for whom that went wrong."""

    def __init__(self, trial: RulebookTrial, registry: Registry, time: str | None) -> None:
        self._trial = trial
        self._registry = registry
        self._time = time

    async def of(self, scopes: Sequence[_Scope]) -> Mapping[str, _Attempt]:
        """By agency the last attempt; none where there is nobody to try. Raises NoDecision."""
        found: dict[str, _Attempt] = {}
        for turn in range(max(len(scope.authors) for scope in scopes)):
            left = [
                scope
                for scope in scopes
                if turn < len(scope.authors)
                and not (scope.agency in found and found[scope.agency].why is None)
            ]
            found |= await self._attempt(left, turn)
        return found

    async def _attempt(self, scopes: Sequence[_Scope], turn: int) -> Mapping[str, _Attempt]:
        """Propose; have all others approve; activate with the approvals of those who could."""
        authors = [scope.authors[turn] for scope in scopes]
        proposed = await self._decide(
            self._question(author, "propose", scope) for scope, author in zip(scopes, authors, strict=True)
        )
        pairs = [
            (index, approver)
            for index, scope in enumerate(scopes)
            for approver in scope.approvers
            if proposed[index].permitted and approver != authors[index]
        ]
        decided = await self._decide(
            self._question(approver, "approve", scopes[index], authors[index]) for index, approver in pairs
        )
        approvals: dict[int, list[Pair]] = {index: [] for index in range(len(scopes))}
        for (index, approver), decision in zip(pairs, decided, strict=True):
            if decision.permitted:
                approvals[index].append(approver)
        activated = await self._decide(
            self._question(author, "activate", scope, author, approvals[index])
            for index, (scope, author) in enumerate(zip(scopes, authors, strict=True))
        )
        return {
            scope.agency: _Attempt(author, _why(*decisions))
            for scope, author, *decisions in zip(scopes, authors, proposed, activated, strict=True)
        }

    def _question(
        self,
        person: Pair,
        verb: str,
        scope: _Scope,
        author: Pair | None = None,
        approvals: Sequence[Pair] = (),
    ) -> Question:
        agency = self._registry.agencies.get(person[0])
        roles = sorted(_ROLES & agency.roles) or sorted(agency.roles) if agency is not None else []
        attributes = {} if agency is None else agency.attributes
        principal = Principal(*person, tuple(roles), (), attributes, "", datetime.max.replace(tzinfo=UTC))
        return administer_question(principal, verb, [scope.area], author, approvals)

    async def _decide(self, questions: Iterable[Question]) -> list[Decision]:
        """Decisions in order; what has none of its own is not permitted."""
        decisions: list[Decision] = []
        left = iter(questions)
        time = {} if self._time is None else {"time": self._time}
        while some := list(islice(left, _BATCH)):
            answers = await self._trial.decide(
                [{**question.item, "id": str(index), **time} for index, question in enumerate(some)]
            )
            decisions += (answers.get(str(index), _NONE) for index in range(len(some)))
        return decisions


def _why(proposed: Decision, activated: Decision) -> str | None:
    for verb, decision in (("propose", proposed), ("activate", activated)):
        if not decision.permitted:
            return f"could not {verb} a change ({', '.join(decision.reasons)})"
    return None


def _findings(scopes: Sequence[_Scope], attempts: Mapping[str, _Attempt]) -> Iterator[Finding]:
    for scope in scopes:
        file = f"data/administrators/{scope.agency}/data.yaml"
        attempt = attempts.get(scope.agency)
        if attempt is None or attempt.why is not None:
            who = "there is no administrator" if attempt is None else f"{attempt.author[1]} {attempt.why}"
            yield Finding(file, None, f"nobody could change what is {scope.agency}'s: {who}", _remedy(scope))
        elif attempt.author[0] != scope.agency:
            what = f"nobody could approve what {scope.agency} proposes itself"
            yield Finding(file, None, what, "list another administrator", Severity.WARNING)


def _remedy(scope: _Scope) -> str:
    if scope.agency == EXCHANGE:
        return (
            "keep as many administrators as have to approve, and an author; replace them one after the other"
        )
    return "list an administrator, and correct the rules"
