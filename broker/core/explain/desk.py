"""Explanations by the exchange, to each as far as it may know.

Who sees all sees all. An agency's administrators see why their agency's own records went out or did not. Of whether others
may subscribe an owner is shown its own agreements only: the answer itself tells of what others have agreed on. All others
are told of their own calls what the rulebook marks public, and whom to ask.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from broker.core.administer import AdminAccess
from broker.core.answers import answers_to
from broker.core.audit.readings import Readings
from broker.core.explain.asked import (
    DecisionAt,
    Recorded,
    decision_at,
    decisions_of_reference,
)
from broker.core.explain.consumer import PublicAnswer, public_answer
from broker.core.explain.explainer import Explainer, Known
from broker.core.explain.model import Explanation
from broker.core.explain.question import Found, MadeUp, RecordNamed, item_of
from broker.core.in_force import InForce
from broker.core.questions import subscribe_question
from broker.core.regime import Regime
from broker.core.rulebook.library import RulebookLibrary
from broker.core.rulebook.scope import View
from broker.errors import EntenteError, NoDecision, Reason, RulebookRefused
from broker.model.ledger import JsonValue
from broker.model.principal import Principal
from broker.ports.clock import Clock

Answer = Explanation | PublicAnswer
_AT_ONCE = 2
"""Explanations; the engine of one may take gigabytes."""
_NOBODY = View("")
"""Sees nothing but what is public."""


class ExplainDesk:
    """Used from one event loop; raises EntenteError, see Rulebook.Explain."""

    def __init__(
        self,
        *,
        in_force: InForce[Regime],
        access: AdminAccess,
        library: RulebookLibrary,
        readings: Readings,
        explainer: Explainer,
        clock: Clock,
    ) -> None:
        self._in_force = in_force
        self._access = access
        self._library = library
        self._readings = readings
        self._explainer = explainer
        self._clock = clock
        self._asking: set[str] = set()
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def reference(self, principal: Principal, reference: str) -> Sequence[Answer]:
        """Why the call was refused, or decided as it was, that an error's `reference` names: one for each decision."""
        view = await self._begin(principal, {"reference": reference[:64]})
        concerned = None if view.agency is None else principal.agency
        async with self._turn(principal, view):
            async with self._readings.unrestricted() as (reader, index):
                found = await decisions_of_reference(reader, index, reference, concerned)
            answers = [answer for each in found if (answer := await self._recorded(principal, view, each))]
        if not answers:
            raise EntenteError(Reason.ENTRY_NOT_FOUND, "(of this reference)")
        return answers

    async def decision(self, principal: Principal, at: DecisionAt) -> Sequence[Answer]:
        """Why a decision that the ledger holds is as it is."""
        name = f"{at.instance[:32]}/{at.index}#{at.number}"
        view = await self._begin(principal, {"decision": name})
        async with self._turn(principal, view):
            async with self._readings.unrestricted() as (reader, index):
                found = await decision_at(reader, index, at)
            answer = None if found is None else await self._recorded(principal, view, found)
        if answer is None:
            raise EntenteError(Reason.ENTRY_NOT_FOUND, name)
        return [answer]

    async def made_up(self, principal: Principal, asked: MadeUp) -> Sequence[Answer]:
        """What would be decided, and why."""
        view = await self._begin(principal, _about(asked))
        if view.agency is not None and asked.owner not in (None, view.agency):
            view = _NOBODY
        if view == _NOBODY:
            return [await self._own_question(principal, asked)]
        async with self._turn(principal, view):
            known = await self._known(await self._library.resolve(view, asked.revision))
            item = item_of(asked, await self._found(asked), known.registry)
            return [await self._explained(known, item, view, self._clock.now_ms())]

    @asynccontextmanager
    async def _turn(self, principal: Principal, view: View) -> AsyncIterator[None]:
        """One explanation of an agency at a time, and few of all: each may run engines, and read much of a ledger."""
        agency = principal.agency
        if agency in self._asking:
            raise EntenteError(Reason.LIMIT_EXCEEDED, "one explanation of an agency at a time")
        self._asking.add(agency)
        try:
            async with self._turns:
                yield
        finally:
            self._asking.discard(agency)
        if await self._view(principal) != view:  # as of every reading: by the end its eyes may be others
            raise EntenteError(Reason.POLICY_UNAVAILABLE)

    async def _begin(self, principal: Principal, about: Mapping[str, JsonValue]) -> View:
        """Whose eyes; and who asks is in the ledger before anything is answered."""
        view = await self._view(principal)
        await self._readings.account(principal, "Explain", about)
        return view

    async def _view(self, principal: Principal) -> View:
        try:
            return View((await self._access.scope(principal, "explain")).agency)
        except EntenteError as error:
            if error.reason is not Reason.ADMINISTRATION_DENIED:
                raise
            return _NOBODY

    async def _recorded(self, principal: Principal, view: View, recorded: Recorded) -> Answer | None:
        """None for what is not to be told of at all."""
        own = _record_owner(recorded.input)
        if view.agency is None or (own is not None and own == view.agency):
            known = await self._known(recorded.rules.revision)
            return await self._explained(known, recorded.input, view, recorded.time_ms)
        if not _is_own_call(principal, recorded):
            return None
        return await self._public(principal, recorded.input, _reasons(recorded.output))

    async def _explained(
        self, known: Known, item: Mapping[str, JsonValue], view: View, time_ms: int
    ) -> Explanation:
        try:
            found = await self._explainer.explain(known, item, view, time_ms)
        except NoDecision:
            raise EntenteError(Reason.POLICY_UNAVAILABLE) from None
        shown = replace(found, revision=await self._library.id_for(view, known.revision.id))
        if view.agency is not None and item.get("action") == "subscribe":
            # Whether somebody may subscribe, and by which rule, may rest on what another owner has agreed on.
            shown = replace(shown, output=None, rules=(), data=())
        return shown

    async def _own_question(self, principal: Principal, asked: MadeUp) -> PublicAnswer:
        """Of a made-up question only one's own standing is looked at, whoever it is about."""
        if asked.record is not None or asked.who.agency != principal.agency:
            return await self._public(principal, {"action": "deliver", "topic": asked.topic}, ())
        question = subscribe_question(principal, asked.topic, asked.who.purpose)
        (answer,) = await answers_to([question], self._in_force.present.regime.decider, self._clock)
        reasons = answer.decision.reasons
        return await self._public(principal, {"action": "subscribe", "topic": asked.topic}, reasons)

    async def _public(
        self, principal: Principal, item: Mapping[str, JsonValue], reasons: Sequence[str]
    ) -> PublicAnswer:
        regime = self._in_force.present.regime
        try:
            await regime.access.require_publish(principal, str(item.get("topic")))
        except EntenteError as error:
            if error.reason is not Reason.TOPIC_NOT_FOUND:
                raise
            return public_answer(item, reasons, regime.registry, may_know=False)
        return public_answer(item, reasons, regime.registry, may_know=True)

    async def _found(self, asked: MadeUp) -> Found | None:
        if not isinstance(asked.record, RecordNamed):
            return None
        async with self._readings.unrestricted() as (_, index):
            publications = await index.publications(asked.record.source, asked.record.id)
        if not publications:
            raise EntenteError(Reason.ENTRY_NOT_FOUND, "(that publishes this record)")
        return Found.of(publications[0])

    async def _known(self, revision_id: str) -> Known:
        """One that could not be in force now, as of another version of the exchange, is none that can be explained."""
        try:
            return await Known.read(await self._library.revision(revision_id))
        except RulebookRefused:
            raise EntenteError(Reason.REVISION_NOT_FOUND, revision_id) from None


def _about(asked: MadeUp) -> dict[str, JsonValue]:
    record: JsonValue = None
    if isinstance(asked.record, RecordNamed):
        record = {"source": asked.record.source, "id": asked.record.id}
    elif asked.record is not None:
        record = {"owner": asked.record.owner, "type": asked.record.type}
    return {
        "agency": asked.who.agency,
        "purpose": asked.who.purpose,
        "topic": asked.topic,
        "record": record,
        "revision": asked.revision,
    }


def _record_owner(item: Mapping[str, Any]) -> str | None:
    """Whose record a decision is about; None for one about a call."""
    record = item.get("record")
    owner = record.get("agency") if isinstance(record, dict) else None
    return owner if isinstance(owner, str) else None


def _is_own_call(principal: Principal, recorded: Recorded) -> bool:
    """Only what the caller itself was answered: what its agency is handed is not told here."""
    who = recorded.who or {}
    is_call = recorded.input.get("action") != "deliver"
    return is_call and (who.get("agency"), who.get("subject")) == (principal.agency, principal.subject)


def _reasons(output: Mapping[str, Any]) -> Sequence[str]:
    reasons = output.get("reasons")
    return [str(reason) for reason in reasons] if isinstance(reasons, list) else []
