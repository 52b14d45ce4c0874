"""What the sides of an exchange are built on: its stores, one revision of the rulebook at work, the configuration."""

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
from broker.core.cursor import CursorCodec
from broker.core.decide import Decider
from broker.core.deliver.disclose import Discloser
from broker.core.evidence import Evidence
from broker.core.places import Places
from broker.core.record.admission import RecordLimits
from broker.model.record import LogTopic
from broker.model.registry import Registry
from broker.ports.clock import Clock
from broker.ports.keys import Keys
from broker.rpc.interceptors import IdentityInterceptor
from broker.rpc.quotas import QuotaLimits, Quotas
from broker.rpc.subscribe import StreamTimes


@dataclass(frozen=True, slots=True)
class Opened:
    """What was opened and started for this exchange."""

    config: Config
    stores: Stores
    ledger: OpenLedger
    rulebook: PreparedRulebook
    engine: OpaEngine
    topics: dict[str, LogTopic]
    keys: Keys
    clock: Clock


@dataclass(frozen=True, slots=True)
class Foundation:
    """What several sides share; each part exists once."""

    opened: Opened
    registry: Registry
    codec: CursorCodec
    decider: Decider
    access: Access
    evidence: Evidence
    discloser: Discloser
    places: Places
    quotas: Quotas
    identity: JwtIdentity
    identify: IdentityInterceptor

    @classmethod
    def of(cls, opened: Opened) -> Foundation:
        """The parts for one revision."""
        rulebook, clock = opened.rulebook, opened.clock
        codec = CursorCodec(opened.keys)
        decider = Decider(opened.engine, clock, time_dependent=rulebook.revision.time_dependent)
        identity = _identity(opened.config, rulebook, clock)
        return cls(
            opened=opened,
            registry=rulebook.registry,
            codec=codec,
            decider=decider,
            access=Access(rulebook.registry, decider, clock),
            evidence=Evidence(opened.ledger.writer, clock, rulebook.revision.id, opened.engine.version),
            discloser=Discloser(rulebook.registry, opened.keys),
            places=Places(opened.stores.record_log, opened.topics, codec),
            quotas=Quotas(_quota_limits(opened.config), clock),
            identity=identity,
            identify=IdentityInterceptor(identity),
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


def record_limits(config: Config) -> RecordLimits:
    """What one record may take."""
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


def stream_times(config: Config) -> StreamTimes:
    """How long streams wait."""
    return StreamTimes(config.limits.heartbeat_s, config.limits.slow_consumer_s, config.limits.drain_s)
