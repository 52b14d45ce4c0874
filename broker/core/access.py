"""What a principal may do with a topic: the one place where a hidden topic becomes a missing one (design rule 6)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime

from broker.core.decide import Decider, Question
from broker.core.questions import probe_labels, publish_question, subscribe_question
from broker.errors import EntenteError, NoDecision, Reason
from broker.model.principal import Principal
from broker.model.registry import Registry, Topic
from broker.ports.clock import Clock

_TOPIC_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
"""What a rulebook may call a topic; anything else is missing without being asked about."""


class Access:
    """Answers from one revision's registry and decisions. All methods raise EntenteError POLICY_UNAVAILABLE."""

    def __init__(self, registry: Registry, decider: Decider, clock: Clock) -> None:
        self._registry = registry
        self._decider = decider
        self._clock = clock

    async def require_subscribe(self, principal: Principal, topic: str, purpose: str) -> Topic:
        """The topic, if the principal may subscribe to it for `purpose`.

        Raises PURPOSE_NOT_PERMITTED for a purpose that the token lacks, else TOPIC_NOT_FOUND, the same for a topic that
        does not exist and for one that is not permitted.
        """
        if purpose not in principal.purposes:
            raise self._not_permitted(purpose)
        found = self._registry.topics.get(topic)
        # A missing topic is asked about as well, so that its answer takes as long as that of a hidden one.
        permitted = _may_exist(topic) and await self.subscribe_purposes(principal, topic, [purpose])
        if found is None or not permitted:
            raise EntenteError(Reason.TOPIC_NOT_FOUND, topic)
        return found

    async def require_publish(self, principal: Principal, topic: str) -> Topic:
        """The topic, if the principal may publish to it or subscribe to it; else TOPIC_NOT_FOUND."""
        types, may_subscribe = await self._usable(principal, topic)
        found = self._registry.topics.get(topic)
        if found is None or not (types or may_subscribe):
            raise EntenteError(Reason.TOPIC_NOT_FOUND, topic)
        return found

    async def may_publish(self, principal: Principal, topic: str) -> list[str]:
        """As `publish_types` for a topic that may be missing, and then none."""
        return (await self._usable(principal, topic))[0]

    async def subscribe_purposes(
        self, principal: Principal, topic: str, purposes: Sequence[str]
    ) -> list[str]:
        """Those of `purposes` for which the principal may subscribe to the topic."""
        questions = [subscribe_question(principal, topic, purpose) for purpose in purposes]
        return [purpose for purpose, yes in zip(purposes, await self._ask(questions), strict=True) if yes]

    async def publish_types(self, principal: Principal, topic: Topic) -> list[str]:
        """The record types, sorted, that the principal may publish on the topic with the least restricted labels."""
        questions = self._publish_questions(principal, topic)
        answers = await self._ask(list(questions.values()))
        return [name for name, yes in zip(questions, answers, strict=True) if yes]

    async def _usable(self, principal: Principal, topic: str) -> tuple[list[str], bool]:
        """The types that it may publish there, and whether it may subscribe: one call of the engine, topic or no topic."""
        if not _may_exist(topic):
            return [], False
        found = self._registry.topics.get(topic)
        publish = self._publish_questions(principal, found) if found is not None else {}
        subscribe = [subscribe_question(principal, topic, purpose) for purpose in principal.purposes]
        answers = await self._ask([*publish.values(), *subscribe])
        types = [name for name, yes in zip(publish, answers, strict=False) if yes]
        return types, any(answers[len(publish) :])

    def _publish_questions(self, principal: Principal, topic: Topic) -> dict[str, Question]:
        types = [t for name in sorted(topic.accepts) if (t := self._registry.record_types.get(name))]
        labels = probe_labels(self._registry)
        return {t.name: publish_question(principal, topic.name, t, labels) for t in types}

    def _not_permitted(self, purpose: str) -> EntenteError:
        """Echoes the purpose only if it is a word of the vocabulary, which the answer lists."""
        words = self._registry.vocabulary.purposes
        known = purpose if purpose in words else "(not in the vocabulary)"
        return EntenteError(Reason.PURPOSE_NOT_PERMITTED, known, {"vocabulary": ",".join(sorted(words))})

    async def _ask(self, questions: Sequence[Question]) -> list[bool]:
        try:
            decisions = await self._decider.decide(questions)
        except NoDecision:
            raise EntenteError(Reason.POLICY_UNAVAILABLE) from None
        if any(decision is None for decision in decisions):
            raise EntenteError(Reason.POLICY_UNAVAILABLE)
        # An agreement that has ended permits nothing any more: the topic is hidden again.
        now = datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC)
        return [d is not None and d.permitted and d.holds_at(now) for d in decisions]


def _may_exist(topic: str) -> bool:
    return _TOPIC_NAME.fullmatch(topic) is not None
