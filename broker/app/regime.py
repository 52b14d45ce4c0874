"""From a revision with an engine to a regime: its topics open, its issuers known."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from broker.adapters.jwt.identity import JwtIdentity
from broker.adapters.jwt.issuers import JwksSettings
from broker.app.config import Config
from broker.app.engines import Engines, Loaded
from broker.app.rulebook import PreparedRulebook
from broker.app.stores import Stores
from broker.core.access import Access
from broker.core.catalog import Catalog
from broker.core.decide import Decider, DeciderLimits
from broker.core.decide.quota import LabelSetQuota
from broker.core.deliver.disclose import Discloser
from broker.core.deliver.view import RecordViews
from broker.core.record.admission import RecordLimits
from broker.core.record.examination import Examiner
from broker.core.regime import Regime
from broker.errors import RulebookRefused
from broker.model.record import LogTopic
from broker.model.registry import Topic
from broker.model.rulebook import Rules
from broker.ports.clock import Clock
from broker.ports.keys import Keys
from broker.ports.policy_engine import PolicyEngine


def _label_set_quota() -> LabelSetQuota:
    """One for all revisions: a label set is not new because the revision is."""
    limits = DeciderLimits()
    return LabelSetQuota(limits.label_sets_per_minute, limits.label_sets_known)


@dataclass(frozen=True, slots=True)
class RegimeBuilder:
    """What every regime of an exchange is built from, besides its revision."""

    config: Config
    stores: Stores
    keys: Keys
    clock: Clock
    engines: Engines
    _quota: LabelSetQuota = field(default_factory=_label_set_quota)
    _asked_for: dict[str, tuple[Topic, LogTopic]] = field(default_factory=dict)
    """The topics as the record log was asked for them last, by name."""

    async def build(self, loaded: Loaded, before: OpenRegime | None = None) -> OpenRegime:
        """A regime at work on an engine that was lent, which it gives back when it is closed, and if this fails.

        before: the one in force, whose fetched keys it goes on with. Raises RulebookRefused, StorageUnavailable.
        """
        rulebook, engine = loaded.rulebook, loaded.engine
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self.engines.give_back, loaded)
            dependent = rulebook.revision.time_dependent
            decider = Decider(engine, self.clock, time_dependent=dependent, quota=self._quota)
            stack.push_async_callback(decider.close)
            identity = await asyncio.to_thread(self._identity, rulebook, before)
            stack.push_async_callback(identity.close)
            topics = await self._topics(rulebook)
            regime = self._regime(rulebook, engine, decider, topics, identity)
            return OpenRegime(regime, identity, stack.pop_all())

    def _regime(
        self,
        rulebook: PreparedRulebook,
        engine: PolicyEngine,
        decider: Decider,
        topics: dict[str, LogTopic],
        identity: JwtIdentity,
    ) -> Regime:
        registry = rulebook.registry
        access = Access(registry, decider, self.clock, identity)
        return Regime(
            rules=Rules(rulebook.revision.id, engine.version),
            time_dependent=rulebook.revision.time_dependent,
            registry=registry,
            topics=topics,
            engine=engine,
            decider=decider,
            access=access,
            catalog=Catalog(registry, access),
            examiner=Examiner(registry, record_limits(self.config)),
            discloser=Discloser(registry, self.keys),
            views=RecordViews(registry),
            identity=identity,
        )

    async def _topics(self, rulebook: PreparedRulebook) -> dict[str, LogTopic]:
        """Create the rulebook's topics where they are absent; by name. Refuses another partition count.

        What the log was asked for last is not asked again: on Kafka that takes longer than all else that is left to do.
        """
        try:
            for topic in rulebook.registry.topics.values():
                if self._asked_for.get(topic.name, (None,))[0] != topic:
                    self._asked_for.pop(topic.name, None)
                    opened = await self.stores.record_log.open_topic(topic)
                    self._asked_for[topic.name] = topic, opened
            return {name: self._asked_for[name][1] for name in rulebook.registry.topics}
        except ValueError as error:
            raise RulebookRefused((f"data/topics/data.yaml: {error}",)) from None

    def _identity(self, rulebook: PreparedRulebook, before: OpenRegime | None) -> JwtIdentity:
        config = self.config
        jwks = JwksSettings(
            ttl_s=config.jwks.ttl_s,
            stale_s=config.jwks.stale_s,
            timeout_s=config.jwks.timeout_s,
            ca_file=config.jwks.ca_file,
            insecure_http_loopback=config.jwks.insecure_http_loopback,
        )
        return JwtIdentity(
            rulebook.registry,
            rulebook.revision.files,
            audience=config.exchange.audience,
            clock=self.clock,
            leeway_s=config.limits.token_leeway_s,
            jwks=jwks,
            before=None if before is None else before.identity,
        )


@dataclass(frozen=True, slots=True, eq=False)
class OpenRegime:
    """A regime with what has to end when it is over."""

    regime: Regime
    identity: JwtIdentity
    _stack: AsyncExitStack

    async def close(self) -> None:
        """Give back its engine, and give up what is asked of it; idempotent."""
        await self._stack.aclose()


def record_limits(config: Config) -> RecordLimits:
    """What one record may take."""
    return RecordLimits(
        record_bytes=config.limits.record_bytes,
        attribute_bytes=config.limits.attribute_bytes,
        attributes=config.limits.attributes,
    )
