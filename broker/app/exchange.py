"""Wires one exchange, side by side: publishing, delivering, auditing, serving."""

from __future__ import annotations

from dataclasses import dataclass

from broker.app.administering import administering
from broker.app.auditing import auditing, fresh_index
from broker.app.explaining import explaining
from broker.app.foundation import Foundation, Opened, stream_times
from broker.app.overlays import announcer, overlays
from broker.core.audit.fresh import FreshIndex
from broker.core.control.desk import ControlDesk
from broker.core.deliver.fanout import FanOut
from broker.core.deliver.placement import Tools
from broker.core.deliver.prepare import Preparer
from broker.core.evidence import Evidence
from broker.core.ledger.receipt import ReceiptCodec
from broker.core.overlay.announcing import Announcer
from broker.core.preview import Previewer
from broker.core.publish import Publisher
from broker.core.rulebook.proposing import ProposingDesk
from broker.core.streams import Streams
from broker.core.subscriptions import SubscriptionDesk
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
    control: ControlDesk
    proposing: ProposingDesk
    announcer: Announcer


def wire(opened: Opened) -> Exchange:
    """All parts of one exchange."""
    base = Foundation.of(opened)
    publisher = _publisher(base)
    fanout = _fanout(base)
    subscribe = _subscribe(base, fanout)
    audit_index = fresh_index(base)
    rulebook = administering(base)
    announces = announcer(base, audit_index)
    account = LedgerInterceptor(base.evidence)
    message_bytes = opened.config.limits.message_bytes
    return Exchange(
        table=routes(
            _publishing(base, publisher),
            subscribe,
            _subscriptions(base),
            CatalogServicer(base.in_force, opened.clock),
            auditing(base, audit_index),
            rulebook.servicer,
            overlays(base, audit_index, announces),
            explaining(base, audit_index),
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
        control=base.control,
        proposing=rulebook.proposing,
        announcer=announces,
    )


def _publisher(base: Foundation) -> Publisher:
    opened = base.opened
    return Publisher(
        in_force=base.in_force,
        log=opened.stores.record_log,
        evidence=base.evidence,
        codec=base.codec,
        keys=opened.keys,
        clock=opened.clock,
    )


def _publishing(base: Foundation, publisher: Publisher) -> ExchangeServicer:
    opened = base.opened
    previewer = Previewer(in_force=base.in_force, evidence=base.evidence, clock=opened.clock)
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
    return FanOut(
        tools=Tools(
            base.in_force,
            opened.stores.record_log,
            Preparer(opened.clock),
            base.evidence,
            opened.clock,
            opened.keys,
        ),
        subscriptions=opened.stores.subscriptions,
        buffer_limit_bytes=opened.config.limits.total_buffer_bytes,
    )


def _subscribe(base: Foundation, fanout: FanOut) -> SubscribeServicer:
    opened = base.opened
    streams = Streams(
        in_force=base.in_force,
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
        in_force=base.in_force,
        places=base.places,
        store=opened.stores.subscriptions,
        evidence=base.evidence,
        codec=base.codec,
        clock=opened.clock,
        limit_per_principal=SUBSCRIPTIONS_PER_PRINCIPAL,
    )
    return SubscriptionsServicer(desk)
