"""The table of methods: every method of the protos, whether it streams, and what serves it.

The architecture test compares it with the protos' descriptors, so that a method that is not listed here fails the build.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import grpc

from broker.core.reference import new_reference
from broker.errors import EntenteError, Reason
from broker.ports.clock import Clock
from broker.rpc.call import Call, Interceptor, Method
from broker.rpc.catalog import CatalogServicer
from broker.rpc.exchange import ExchangeServicer
from broker.rpc.explaining import ExplainServicer
from broker.rpc.interceptors import chain
from broker.rpc.ledger import LedgerServicer
from broker.rpc.overlays import OverlaysServicer
from broker.rpc.rulebook import RulebookServicer
from broker.rpc.subscribe import SubscribeServicer
from broker.rpc.subscriptions import SubscriptionsServicer

PACKAGE = "entente.v1"


@dataclass(frozen=True, slots=True)
class Route:
    """One method: "Service/Method" and what serves it; every one needs an authenticated caller.

    streaming: it answers with a stream. Whether it also takes one is its own affair: a single message is read like a stream.
    """

    name: str
    method: Method
    streaming: bool = False


def routes(
    exchange: ExchangeServicer,
    subscribe: SubscribeServicer,
    subscriptions: SubscriptionsServicer,
    catalog: CatalogServicer,
    ledger: LedgerServicer,
    rulebook: RulebookServicer,
    overlays: OverlaysServicer,
    explaining: ExplainServicer,
) -> tuple[Route, ...]:
    """All methods of package entente.v1."""
    return (
        Route("Exchange/Publish", exchange.publish),
        Route("Exchange/PublishStream", exchange.publish_stream, streaming=True),
        Route("Exchange/PreviewPublish", exchange.preview_publish),
        Route("Exchange/Subscribe", subscribe.subscribe, streaming=True),
        Route("Subscriptions/CreateSubscription", subscriptions.create),
        Route("Subscriptions/GetSubscription", subscriptions.get),
        Route("Subscriptions/ListSubscriptions", subscriptions.list),
        Route("Subscriptions/DeleteSubscription", subscriptions.delete),
        Route("Subscriptions/SeekSubscription", subscriptions.seek),
        Route("Catalog/WhoAmI", catalog.who_am_i),
        Route("Catalog/CanI", catalog.can_i),
        Route("Catalog/ListTopics", catalog.list_topics),
        Route("Catalog/ListRecordTypes", catalog.list_record_types),
        Route("Catalog/ListAgencies", catalog.list_agencies),
        Route("Catalog/GetVocabulary", catalog.get_vocabulary),
        Route("Ledger/GetCheckpoint", ledger.get_checkpoint),
        Route("Ledger/ListEntries", ledger.list_entries),
        Route("Ledger/WhoSaw", ledger.who_saw),
        Route("Ledger/WhatSaw", ledger.what_saw),
        Route("Ledger/ProveEntry", ledger.prove_entry),
        Route("Ledger/CheckReceipts", ledger.check_receipts),
        Route("Ledger/ReplayRecords", ledger.replay_records, streaming=True),
        *_rulebook(rulebook, explaining),
        *_overlays(overlays),
    )


def _rulebook(rulebook: RulebookServicer, explaining: ExplainServicer) -> tuple[Route, ...]:
    return (
        Route("Rulebook/Propose", rulebook.propose, streaming=True),
        Route("Rulebook/Simulate", rulebook.simulate, streaming=True),
        Route("Rulebook/GetProposal", rulebook.get_proposal),
        Route("Rulebook/ListProposals", rulebook.list_proposals),
        Route("Rulebook/Approve", rulebook.approve),
        Route("Rulebook/Reject", rulebook.reject),
        Route("Rulebook/Activate", rulebook.activate),
        Route("Rulebook/Rollback", rulebook.rollback, streaming=True),
        Route("Rulebook/GetStatus", rulebook.get_status),
        Route("Rulebook/ListRevisions", rulebook.list_revisions),
        Route("Rulebook/PullRevision", rulebook.pull_revision, streaming=True),
        Route("Rulebook/DiffRevisions", rulebook.diff_revisions),
        Route("Rulebook/Explain", explaining.explain),
    )


def _overlays(overlays: OverlaysServicer) -> tuple[Route, ...]:
    return (
        Route("Overlays/Suspend", overlays.suspend),
        Route("Overlays/ListSuspensions", overlays.list),
        Route("Overlays/Ratify", overlays.ratify),
        Route("Overlays/Lift", overlays.lift),
        Route("Overlays/Withdraw", overlays.withdraw),
        Route("Overlays/GetWithdrawal", overlays.get_withdrawal),
    )


def generic_handlers(
    table: Sequence[Route], interceptors: Sequence[Interceptor], clock: Clock
) -> list[grpc.GenericRpcHandler]:
    """Handlers over bytes: grpcio answers garbage with a bare UNKNOWN, so messages are parsed behind the interceptors."""
    by_service: dict[str, dict[str, grpc.RpcMethodHandler[bytes, bytes]]] = {}
    for route in table:
        service, _, name = route.name.partition("/")
        method = chain(interceptors, route.method)
        full = f"{PACKAGE}.{service}/{name}"
        handler = (_streaming if route.streaming else _unary)(full, method, clock)
        by_service.setdefault(service, {})[name] = handler
    known = [_generic(service, methods) for service, methods in by_service.items()]
    return [*known, _UnknownMethods(interceptors, clock)]


class _UnknownMethods(grpc.GenericRpcHandler):
    """Answers every other method of the package, to authenticated callers, with METHOD_UNKNOWN."""

    def __init__(self, interceptors: Sequence[Interceptor], clock: Clock) -> None:
        self._method = chain(interceptors, _unknown)
        self._clock = clock

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        """See grpc.GenericRpcHandler."""
        if not handler_call_details.method.startswith(f"/{PACKAGE}."):
            return None
        # The name is the caller's text, and would go into the ledger.
        return _streaming(f"{PACKAGE}.(unknown)", self._method, self._clock)


async def _unknown(_: Call) -> None:
    raise EntenteError(Reason.METHOD_UNKNOWN)


def _generic(service: str, methods: dict[str, grpc.RpcMethodHandler[bytes, bytes]]) -> grpc.GenericRpcHandler:
    return grpc.method_handlers_generic_handler(f"{PACKAGE}.{service}", methods)


def _unary(name: str, method: Method, clock: Clock) -> grpc.RpcMethodHandler[bytes, bytes]:
    async def serve(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        call = Call(name, context, new_reference(clock.now_ms()), request)
        await method(call)
        return call.response

    return grpc.unary_unary_rpc_method_handler(serve)


def _streaming(name: str, method: Method, clock: Clock) -> grpc.RpcMethodHandler[bytes, bytes]:
    async def serve(_: object, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
        await method(Call(name, context, new_reference(clock.now_ms())))

    return grpc.stream_stream_rpc_method_handler(serve)
