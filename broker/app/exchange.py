"""Wires one exchange, side by side: publishing, delivering, auditing, serving."""

from __future__ import annotations

from dataclasses import dataclass

from broker.adapters.jwt.identity import JwtIdentity
from broker.app.auditing import auditing, fresh_index
from broker.app.foundation import Foundation, Opened, record_limits, stream_times
from broker.app.rulebook import PreparedRulebook
from broker.app.stores import Stores
from broker.core.audit.fresh import FreshIndex
from broker.core.catalog import Catalog
from broker.core.decide import Decider
from broker.core.deliver.fanout import FanOut
from broker.core.deliver.group import Tools
from broker.core.deliver.prepare import Preparer
from broker.core.deliver.view import RecordViews
from broker.core.evidence import Evidence
from broker.core.ledger.receipt import ReceiptCodec
from broker.core.preview import Previewer
from broker.core.publish import Publisher
from broker.core.streams import Streams
from broker.core.subscriptions import SubscriptionDesk
from broker.errors import RulebookRefused
from broker.model.record import LogTopic
from broker.rpc.call import Interceptor
from broker.rpc.catalog import CatalogServicer
from broker.rpc.exchange import ExchangeServicer
from broker.rpc.interceptors import LedgerInterceptor, LimitsInterceptor, errors_interceptor
from broker.rpc.services import Route, routes
from broker.rpc.subscribe import SubscribeServicer
from broker.rpc.subscriptions import SubscriptionsServicer

SUBSCRIPTIONS_PER_PRINCIPAL = 100


@dataclass(frozen=True, slots=True)
class Exchange:
    """What the server serves, and what it must stop."""

    table: tuple[Route, ...]
    interceptors: tuple[Interceptor, ...]
    ledger_interceptor: LedgerInterceptor
    subscribe: SubscribeServicer
    publisher: Publisher
    fanout: FanOut
    audit_index: FreshIndex
    evidence: Evidence
    identity: JwtIdentity
    decider: Decider


async def open_topics(stores: Stores, rulebook: PreparedRulebook) -> dict[str, LogTopic]:
    """Create the rulebook's topics where they are absent; by name. Raises RulebookRefused for another partition count."""
    topics = rulebook.registry.topics.values()
    try:
        return {topic.name: await stores.record_log.open_topic(topic) for topic in topics}
    except ValueError as error:
        raise RulebookRefused((f"data/topics/data.yaml: {error}",)) from None


def wire(opened: Opened) -> Exchange:
    """All parts of one exchange, for one revision."""
    base = Foundation.of(opened)
    publisher = _publisher(base)
    fanout = _fanout(base)
    subscribe = _subscribe(base, fanout)
    audit_index = fresh_index(base)
    account = LedgerInterceptor(base.evidence)
    message_bytes = opened.config.limits.message_bytes
    return Exchange(
        table=routes(
            _publishing(base, publisher),
            subscribe,
            _subscriptions(base),
            CatalogServicer(Catalog(base.registry, base.access), opened.clock),
            auditing(base, audit_index),
        ),
        interceptors=(
            account,
            errors_interceptor,
            base.identify,
            LimitsInterceptor(base.quotas, message_bytes),
        ),
        ledger_interceptor=account,
        subscribe=subscribe,
        publisher=publisher,
        fanout=fanout,
        audit_index=audit_index,
        evidence=base.evidence,
        identity=base.identity,
        decider=base.decider,
    )


def _publisher(base: Foundation) -> Publisher:
    opened = base.opened
    return Publisher(
        registry=base.registry,
        topics=opened.topics,
        access=base.access,
        decider=base.decider,
        log=opened.stores.record_log,
        evidence=base.evidence,
        codec=base.codec,
        keys=opened.keys,
        clock=opened.clock,
        limits=record_limits(opened.config),
    )


def _publishing(base: Foundation, publisher: Publisher) -> ExchangeServicer:
    opened = base.opened
    previewer = Previewer(
        registry=base.registry,
        access=base.access,
        decider=base.decider,
        discloser=base.discloser,
        evidence=base.evidence,
        clock=opened.clock,
        limits=record_limits(opened.config),
    )
    return ExchangeServicer(
        publisher=publisher,
        previewer=previewer,
        quotas=base.quotas,
        clock=opened.clock,
        batch_records=opened.config.limits.batch_records,
        message_bytes=opened.config.limits.message_bytes,
    )


def _fanout(base: Foundation) -> FanOut:
    opened = base.opened
    preparer = Preparer(base.decider, opened.clock)
    return FanOut(
        tools=Tools(opened.stores.record_log, preparer, base.evidence, opened.clock, opened.keys),
        views=RecordViews(base.registry),
        discloser=base.discloser,
        subscriptions=opened.stores.subscriptions,
        buffer_limit_bytes=opened.config.limits.total_buffer_bytes,
    )


def _subscribe(base: Foundation, fanout: FanOut) -> SubscribeServicer:
    opened = base.opened
    streams = Streams(
        access=base.access,
        places=base.places,
        store=opened.stores.subscriptions,
        fanout=fanout,
        evidence=base.evidence,
        codec=base.codec,
        receipts=ReceiptCodec(opened.keys),
        clock=opened.clock,
        buffer_limit_bytes=opened.config.limits.stream_buffer_bytes,
        limit_per_principal=SUBSCRIPTIONS_PER_PRINCIPAL,
    )
    return SubscribeServicer(
        streams=streams,
        fanout=fanout,
        identity=base.identify,
        quotas=base.quotas,
        times=stream_times(opened.config),
        message_bytes=opened.config.limits.message_bytes,
        checkpoint=lambda: opened.ledger.checkpointer.latest_checkpoint,
    )


def _subscriptions(base: Foundation) -> SubscriptionsServicer:
    opened = base.opened
    desk = SubscriptionDesk(
        access=base.access,
        places=base.places,
        store=opened.stores.subscriptions,
        evidence=base.evidence,
        codec=base.codec,
        clock=opened.clock,
        limit_per_principal=SUBSCRIPTIONS_PER_PRINCIPAL,
    )
    return SubscriptionsServicer(desk)
