"""What a principal may do with a topic: the one place where a hidden topic becomes a missing one (design rule 6)."""

from __future__ import annotations

from collections.abc import Sequence

from broker.core.decide import Decider, Question
from broker.core.questions import probe_labels, publish_question, subscribe_question
from broker.errors import EntenteError, NoDecision, Reason
from broker.model.principal import Principal
from broker.model.registry import Registry, Topic


class Access:
    """Answers from one revision's registry and decisions. All methods raise EntenteError POLICY_UNAVAILABLE."""

    def __init__(self, registry: Registry, decider: Decider) -> None:
        self._registry = registry
        self._decider = decider

    async def require_subscribe(self, principal: Principal, topic: str, purpose: str) -> Topic:
        """The topic, if the principal may subscribe to it for `purpose`.

        Raises PURPOSE_NOT_PERMITTED for a purpose that the token lacks, else TOPIC_NOT_FOUND, the same for a topic that
        does not exist and for one that is not permitted.
        """
        if purpose not in principal.purposes:
            raise self._not_permitted(purpose)
        found = self._registry.topics.get(topic)
        # A missing topic is asked about as well, so that its answer takes as long as that of a hidden one.
        permitted = (await self.subscribe_purposes(principal, topic, [purpose])) == [purpose]
        if found is None or not permitted:
            raise EntenteError(Reason.TOPIC_NOT_FOUND, topic)
        return found

    async def require_publish(self, principal: Principal, topic: str) -> Topic:
        """The topic, if the principal may publish to it or subscribe to it; else TOPIC_NOT_FOUND."""
        found = self._registry.topics.get(topic)
        if found is not None:
            if await self.publish_types(principal, found):
                return found
            if await self.subscribe_purposes(principal, topic, principal.purposes):
                return found
        raise EntenteError(Reason.TOPIC_NOT_FOUND, topic)

    async def subscribe_purposes(
        self, principal: Principal, topic: str, purposes: Sequence[str]
    ) -> list[str]:
        """Those of `purposes` for which the principal may subscribe to the topic."""
        questions = [subscribe_question(principal, topic, purpose) for purpose in purposes]
        return [purpose for purpose, yes in zip(purposes, await self._ask(questions), strict=True) if yes]

    async def publish_types(self, principal: Principal, topic: Topic) -> list[str]:
        """The record types, sorted, that the principal may publish on the topic with the least restricted labels."""
        types = [t for name in sorted(topic.accepts) if (t := self._registry.record_types.get(name))]
        labels = probe_labels(self._registry)
        questions = [publish_question(principal, topic.name, record_type, labels) for record_type in types]
        return [t.name for t, yes in zip(types, await self._ask(questions), strict=True) if yes]

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
        return [decision is not None and decision.permitted for decision in decisions]
