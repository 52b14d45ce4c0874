"""What a caller may know: itself, its topics, their record types, its partners, the vocabulary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from broker.core.access import Access
from broker.errors import EntenteError, Reason
from broker.model.principal import Principal
from broker.model.registry import Agency, Agreement, RecordType, Registry, Topic, Vocabulary


@dataclass(frozen=True, slots=True)
class VisibleTopic:
    """A topic and what the caller may do with it; all lists sorted, at least one of the last two not empty.

    record_types: those of the accepted ones that the caller may know.
    """

    topic: Topic
    record_types: tuple[str, ...]
    publish_types: tuple[str, ...]
    subscribe_purposes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Permission:
    """The answer to "can I": empty lists unless permitted."""

    permitted: bool
    agreements: tuple[Agreement, ...] = ()
    record_types: tuple[str, ...] = ()


class Catalog:
    """Reads of one revision, each limited to what the caller may know. Raises EntenteError POLICY_UNAVAILABLE."""

    def __init__(self, registry: Registry, access: Access) -> None:
        self._registry = registry
        self._access = access

    @property
    def vocabulary(self) -> Vocabulary:
        """The words of labels and tokens: known to every caller."""
        return self._registry.vocabulary

    def agreements(self, principal: Principal) -> tuple[Agreement, ...]:
        """Agreements that name the caller's agency as consumer."""
        return tuple(self._registry.granted_to(principal.agency))

    async def topics(self, principal: Principal) -> list[VisibleTopic]:
        """The topics that the caller may publish or subscribe to, by name."""
        visible = []
        for name in sorted(self._registry.topics):
            topic = self._registry.topics[name]
            types = await self._access.publish_types(principal, topic)
            purposes = await self._access.subscribe_purposes(principal, name, sorted(principal.purposes))
            if types or purposes:
                known = tuple(
                    sorted(n for n in topic.accepts if n in types or self._knows(principal, topic, n))
                )
                visible.append(VisibleTopic(topic, known, tuple(types), tuple(purposes)))
        return visible

    async def record_types(self, principal: Principal) -> Mapping[str, tuple[RecordType, bool]]:
        """The types of those topics, by name, and whether the caller may see their field markings."""
        names = {name for visible in await self.topics(principal) for name in visible.record_types}
        types = (self._registry.record_types[name] for name in sorted(names))
        return {t.name: (t, principal.agency == t.owner or principal.agency in t.publishers) for t in types}

    def _knows(self, principal: Principal, topic: Topic, name: str) -> bool:
        """Whether the caller looks after the topic, publishes the type, or has an agreement there with who does."""
        record_type = self._registry.record_types[name]
        involved = {topic.steward, record_type.owner, *record_type.publishers}
        return principal.agency in involved or any(
            a.owner in record_type.publishers and topic.name in a.topics for a in self.agreements(principal)
        )

    def agencies(self, principal: Principal) -> list[Agency]:
        """The caller's own agency and those with which it has an agreement, by name."""
        names = {principal.agency}
        names |= {agreement.owner for agreement in self._registry.granted_to(principal.agency)}
        names |= {agreement.consumer for agreement in self._registry.granted_by(principal.agency)}
        return [self._registry.agencies[name] for name in sorted(names)]

    async def can_publish(self, principal: Principal, topic: str) -> Permission:
        """Whether the caller may publish to the topic, and which record types."""
        types = await self._access.may_publish(principal, topic)
        return Permission(bool(types), record_types=tuple(types))

    async def can_subscribe(self, principal: Principal, topic: str, purpose: str) -> Permission:
        """Whether the caller may subscribe to the topic for `purpose`; raises PURPOSE_NOT_PERMITTED."""
        try:
            await self._access.require_subscribe(principal, topic, purpose)
        except EntenteError as error:
            if error.reason is Reason.TOPIC_NOT_FOUND:
                return Permission(False)
            raise
        named = (a for a in self.agreements(principal) if topic in a.topics and purpose in a.purposes)
        return Permission(True, agreements=tuple(named))
