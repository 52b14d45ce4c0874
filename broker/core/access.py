"""What a principal may do with a topic: the one place where a hidden topic becomes a missing one (design rule 6)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from broker.core.answers import Answer, answers_to
from broker.core.decide import Decider, Question, Ruling
from broker.core.questions import probe_labels, publish_question, subscribe_question
from broker.errors import EntenteError, Reason
from broker.model.principal import Principal
from broker.model.registry import Registry, Topic
from broker.ports.clock import Clock
from broker.ports.identity import Identity

_TOPIC_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
"""What a rulebook may call a topic; anything else is missing without being asked about."""


class Access:
    """Answers from one revision's registry and decisions. All methods raise EntenteError POLICY_UNAVAILABLE.

    What requires something asks first whether the revision knows the principal at all, who may have been authenticated
    by an earlier one, and raises what `Identity.confirm` does.
    """

    def __init__(self, registry: Registry, decider: Decider, clock: Clock, identity: Identity) -> None:
        self._registry = registry
        self._decider = decider
        self._clock = clock
        self._identity = identity

    async def require_subscribe(self, principal: Principal, topic: str, purpose: str) -> tuple[Ruling, ...]:
        """The decisions by which the principal may subscribe to the topic for `purpose`.

        Raises PURPOSE_NOT_PERMITTED for a purpose that the token lacks, else TOPIC_NOT_FOUND, the same for a topic that
        does not exist and for one that is not permitted.
        """
        await self._identity.confirm(principal)
        if purpose not in principal.purposes:
            raise self._not_permitted(purpose)
        found = self._registry.topics.get(topic)
        # A missing topic is asked about as well, so that its answer takes as long as that of a hidden one.
        question = subscribe_question(principal, topic, purpose)
        answers = await self._ask([question]) if _may_exist(topic) else []
        if found is None or not any(answer.permitted for answer in answers):
            raise _not_found(topic, answers)
        return tuple(answer.ruling for answer in answers)

    async def require_publish(self, principal: Principal, topic: str) -> Topic:
        """The topic, if the principal may publish to it or subscribe to it; else TOPIC_NOT_FOUND."""
        await self._identity.confirm(principal)
        publish, subscribe = await self._usable(principal, topic)
        answers = [*publish.values(), *subscribe]
        found = self._registry.topics.get(topic)
        if found is None or not any(answer.permitted for answer in answers):
            raise _not_found(topic, answers)
        return found

    async def may_publish(self, principal: Principal, topic: str) -> list[str]:
        """As `publish_types` for a topic that may be missing, and then none."""
        return _permitted((await self._usable(principal, topic))[0])

    async def subscribe_purposes(
        self, principal: Principal, topic: str, purposes: Sequence[str]
    ) -> list[str]:
        """Those of `purposes` for which the principal may subscribe to the topic."""
        questions = [subscribe_question(principal, topic, purpose) for purpose in purposes]
        return _permitted(dict(zip(purposes, await self._ask(questions), strict=True)))

    async def publish_types(self, principal: Principal, topic: Topic) -> list[str]:
        """The record types, sorted, that the principal may publish on the topic with the least restricted labels."""
        questions = self._publish_questions(principal, topic)
        return _permitted(dict(zip(questions, await self._ask(list(questions.values())), strict=True)))

    async def _usable(self, principal: Principal, topic: str) -> tuple[dict[str, Answer], Sequence[Answer]]:
        """May it publish, by type, and subscribe, for each of its purposes: one call of the engine, topic or no topic."""
        if not _may_exist(topic):
            return {}, []
        found = self._registry.topics.get(topic)
        publish = self._publish_questions(principal, found) if found is not None else {}
        subscribe = [subscribe_question(principal, topic, purpose) for purpose in principal.purposes]
        answers = await self._ask([*publish.values(), *subscribe])
        return dict(zip(publish, answers, strict=False)), answers[len(publish) :]

    def _publish_questions(self, principal: Principal, topic: Topic) -> dict[str, Question]:
        types = [t for name in sorted(topic.accepts) if (t := self._registry.record_types.get(name))]
        labels = probe_labels(self._registry)
        return {t.name: publish_question(principal, topic.name, t, labels) for t in types}

    def _not_permitted(self, purpose: str) -> EntenteError:
        """Echoes the purpose only if it is a word of the vocabulary, which the answer lists."""
        words = self._registry.vocabulary.purposes
        known = purpose if purpose in words else "(not in the vocabulary)"
        return EntenteError(Reason.PURPOSE_NOT_PERMITTED, known, {"vocabulary": ",".join(sorted(words))})

    async def _ask(self, questions: Sequence[Question]) -> list[Answer]:
        return await answers_to(questions, self._decider, self._clock)


def _permitted(answers: dict[str, Answer]) -> list[str]:
    return [name for name, answer in answers.items() if answer.permitted]


def _not_found(topic: str, answers: Iterable[Answer]) -> EntenteError:
    """The same answer whatever there is; why goes into the ledger only."""
    return EntenteError(Reason.TOPIC_NOT_FOUND, topic, decisions=tuple(answer.ruling for answer in answers))


def _may_exist(topic: str) -> bool:
    return _TOPIC_NAME.fullmatch(topic) is not None
