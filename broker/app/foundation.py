"""What the sides of an exchange are built on: its stores, what is in force, the configuration."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from broker.app.config import Config
from broker.app.control import control_desk
from broker.app.ledger import OpenLedger
from broker.app.stores import Stores
from broker.core.control.desk import ControlDesk
from broker.core.control.runtime import ControlRuntime
from broker.core.cursor import CursorCodec
from broker.core.evidence import Evidence
from broker.core.in_force import InForce
from broker.core.places import Places
from broker.core.regime import Regime
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
    in_force: InForce[Regime]
    control: ControlRuntime
    opa: Path
    keys: Keys
    clock: Clock


@dataclass(frozen=True, slots=True)
class Foundation:
    """What several sides share; each part exists once."""

    opened: Opened
    in_force: InForce[Regime]
    codec: CursorCodec
    evidence: Evidence
    places: Places
    quotas: Quotas
    identify: IdentityInterceptor
    control: ControlDesk

    @classmethod
    def of(cls, opened: Opened) -> Foundation:
        """The parts, which look at what is in force whenever they are used."""
        in_force, clock = opened.in_force, opened.clock
        codec = CursorCodec(opened.keys)
        evidence = Evidence(opened.ledger.writer, clock, in_force)
        return cls(
            opened=opened,
            in_force=in_force,
            codec=codec,
            evidence=evidence,
            places=Places(opened.stores.record_log, codec),
            quotas=Quotas(_quota_limits(opened.config), clock),
            identify=IdentityInterceptor(in_force, clock),
            control=control_desk(opened.control, opened.stores.ledger_log, evidence, clock),
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
