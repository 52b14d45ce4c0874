"""Wires one exchange: stores, one revision of the rulebook, its engine, the use cases and the servicers."""

from __future__ import annotations

from dataclasses import dataclass

from broker.adapters.jwt.identity import JwtIdentity
from broker.adapters.jwt.issuers import JwksSettings
from broker.adapters.opa.engine import OpaEngine
from broker.app.config import Config
from broker.app.ledger import OpenLedger
from broker.app.rulebook import PreparedRulebook
from broker.app.stores import Stores
from broker.core.access import Access
from broker.core.catalog import Catalog
from broker.core.cursor import CursorCodec
from broker.core.decide import Decider
from broker.core.deliver.disclose import Discloser
from broker.core.deliver.fanout import FanOut
from broker.core.deliver.group import Tools
from broker.core.deliver.prepare import Preparer
from broker.core.deliver.view import RecordViews
from broker.core.evidence import Evidence
from broker.core.ledger.receipt import ReceiptCodec
from broker.core.places import Places
from broker.core.preview import Previewer
from broker.core.publish import Publisher
from broker.core.record.admission import RecordLimits
from broker.core.streams import Streams
from broker.core.subscriptions import SubscriptionDesk
from broker.errors import RulebookRefused
from broker.model.record import LogTopic
from broker.ports.clock import Clock
from broker.ports.keys import Keys
from broker.rpc.call import Interceptor
from broker.rpc.catalog import CatalogServicer
from broker.rpc.exchange import ExchangeServicer
from broker.rpc.interceptors import (
    IdentityInterceptor,
    LedgerInterceptor,
    LimitsInterceptor,
    errors_interceptor,
)
from broker.rpc.quotas import QuotaLimits, Quotas
from broker.rpc.services import Route, routes
from broker.rpc.subscribe import StreamTimes, SubscribeServicer
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


def wire(
    config: Config,
    stores: Stores,
    ledger: OpenLedger,
    rulebook: PreparedRulebook,
    engine: OpaEngine,
    topics: dict[str, LogTopic],
    keys: Keys,
    clock: Clock,
) -> Exchange:
    """All parts of one exchange, for one revision."""
    registry = rulebook.registry
    codec = CursorCodec(keys)
    decider = Decider(engine, clock, time_dependent=rulebook.revision.time_dependent)
    access = Access(registry, decider, clock)
    evidence = Evidence(ledger.writer, clock, rulebook.revision.id, engine.version)
    discloser = Discloser(registry, keys)
    limits = _record_limits(config)
    places = Places(stores.record_log, topics, codec)
    fanout = FanOut(
        tools=Tools(stores.record_log, Preparer(decider, clock), evidence, clock, keys),
        views=RecordViews(registry),
        discloser=discloser,
        subscriptions=stores.subscriptions,
        buffer_limit_bytes=config.limits.total_buffer_bytes,
    )
    publisher = Publisher(
        registry=registry,
        topics=topics,
        access=access,
        decider=decider,
        log=stores.record_log,
        evidence=evidence,
        codec=codec,
        keys=keys,
        clock=clock,
        limits=limits,
    )
    previewer = Previewer(
        registry=registry,
        access=access,
        decider=decider,
        discloser=discloser,
        evidence=evidence,
        clock=clock,
        limits=limits,
    )
    streams = Streams(
        access=access,
        places=places,
        store=stores.subscriptions,
        fanout=fanout,
        evidence=evidence,
        codec=codec,
        receipts=ReceiptCodec(keys),
        clock=clock,
        buffer_limit_bytes=config.limits.stream_buffer_bytes,
        limit_per_principal=SUBSCRIPTIONS_PER_PRINCIPAL,
    )
    desk = SubscriptionDesk(
        access=access,
        places=places,
        store=stores.subscriptions,
        evidence=evidence,
        codec=codec,
        clock=clock,
        limit_per_principal=SUBSCRIPTIONS_PER_PRINCIPAL,
    )
    identity = _identity(config, rulebook, clock)
    quotas = Quotas(_quota_limits(config), clock)
    identify = IdentityInterceptor(identity)
    subscribe = SubscribeServicer(
        streams=streams,
        fanout=fanout,
        identity=identify,
        quotas=quotas,
        times=_stream_times(config),
        message_bytes=config.limits.message_bytes,
        checkpoint=lambda: ledger.checkpointer.latest_checkpoint,
    )
    exchange = ExchangeServicer(
        publisher=publisher,
        previewer=previewer,
        quotas=quotas,
        clock=clock,
        batch_records=config.limits.batch_records,
        message_bytes=config.limits.message_bytes,
    )
    account = LedgerInterceptor(evidence)
    return Exchange(
        table=routes(
            exchange,
            subscribe,
            SubscriptionsServicer(desk),
            CatalogServicer(Catalog(registry, access), clock),
        ),
        interceptors=(
            account,
            errors_interceptor,
            identify,
            LimitsInterceptor(quotas, config.limits.message_bytes),
        ),
        ledger_interceptor=account,
        subscribe=subscribe,
        publisher=publisher,
        fanout=fanout,
        evidence=evidence,
        identity=identity,
        decider=decider,
    )


def _identity(config: Config, rulebook: PreparedRulebook, clock: Clock) -> JwtIdentity:
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
        clock=clock,
        leeway_s=config.limits.token_leeway_s,
        jwks=jwks,
    )


def _record_limits(config: Config) -> RecordLimits:
    return RecordLimits(
        record_bytes=config.limits.record_bytes,
        attribute_bytes=config.limits.attribute_bytes,
        attributes=config.limits.attributes,
    )


def _quota_limits(config: Config) -> QuotaLimits:
    return QuotaLimits(
        calls_per_s=config.limits.calls_per_s,
        publish_records_per_s=config.limits.publish_records_per_s,
        publish_bytes_per_s=config.limits.publish_bytes_per_s,
        streams_per_agency=config.limits.streams_per_agency,
    )


def _stream_times(config: Config) -> StreamTimes:
    return StreamTimes(config.limits.heartbeat_s, config.limits.slow_consumer_s, config.limits.drain_s)
