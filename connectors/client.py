"""The Python client of the exchange, for asyncio.

    async with Client("exchange.example:7443", token_file=Path("token"), ca_file=Path("ca.pem")) as exchange:
        await exchange.publish("crash-reports", [new_record(type=..., source=..., data=..., labels=...)])
        async with exchange.subscribe("crash-reports", "emergency-response", subscription="intake") as stream:
            async for delivery in stream:
                ...
                await stream.ack(delivery)

Every method raises EntenteClientError, with the catalogue's reason and the reference that an administrator can look up;
its subclasses (connectors.errors) tell what to do next. For programs without asyncio there is connectors.blocking.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import Literal, Self, TypedDict, Unpack
from weakref import WeakSet

from connectors.administering import Administering
from connectors.auditing import Auditing
from connectors.calls import Caller
from connectors.channel import ClientCertificate, open_channel
from connectors.closing import Closing
from connectors.delivery import Start, StreamChoices, StreamOptions, seek_target
from connectors.errors import EntenteClientError
from connectors.overlaying import Overlaying
from connectors.publisher import Publisher, PublisherOptions
from connectors.publishing import (
    PublishOutcome,
    PublishPipe,
    cut,
    encoded,
    outcomes,
    publish_call,
    refused_alone,
)
from connectors.receipts import ReceiptFile, TopicReceipts
from connectors.retry import Retry
from connectors.stream import RecordStream
from connectors.tokens import TokenProvider, TokenSource
from protos.entente.v1 import catalog_pb2, exchange_pb2, subscriptions_pb2
from protos.entente.v1.catalog_pb2_grpc import CatalogStub
from protos.entente.v1.exchange_pb2_grpc import ExchangeStub
from protos.entente.v1.ledger_pb2_grpc import LedgerStub
from protos.entente.v1.overlays_pb2_grpc import OverlaysStub
from protos.entente.v1.rulebook_pb2_grpc import RulebookStub
from protos.entente.v1.subscriptions_pb2_grpc import SubscriptionsStub
from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent


class ClientChoices(TypedDict, total=False):
    """The keyword arguments of Client."""

    token: str | None
    token_file: Path | None
    token_provider: TokenProvider | None
    ca_file: Path | None
    client_certificate: ClientCertificate | None
    insecure_plaintext: bool
    timeout_s: float
    retry: Retry | None


class Client(Closing):
    """One connection to an exchange, as one principal; open it with `async with`."""

    def __init__(
        self,
        endpoint: str,
        *,
        token: str | None = None,
        token_file: Path | None = None,
        token_provider: TokenProvider | None = None,
        ca_file: Path | None = None,
        client_certificate: ClientCertificate | None = None,
        insecure_plaintext: bool = False,
        timeout_s: float = 30.0,
        retry: Retry | None = None,
    ) -> None:
        """Prepare; nothing is connected yet.

        endpoint: "host:port". Exactly one of token, token_file (read again before its token ends) and token_provider
        (called again then; may be a coroutine function). ca_file: the exchange's CA, PEM. client_certificate: PEM
        files of chain and key, for the mTLS listener. timeout_s: deadline of each unary call, and of each answer to a
        batch on a stream. retry: how unary calls and publishing are repeated while the exchange is unavailable. Raises
        ValueError, and OSError for files.
        """
        tokens = TokenSource(token=token, token_file=token_file, token_provider=token_provider)
        self._caller = Caller(endpoint, tokens, timeout_s=timeout_s, retry=retry or Retry())
        self._tls = (ca_file, client_certificate, insecure_plaintext)
        self._kept: ReceiptFile | None = None
        self._begun: WeakSet[RecordStream | Publisher] = WeakSet()

    async def __aenter__(self) -> Self:
        ca_file, certificate, plaintext = self._tls
        self._channel = open_channel(
            self._caller.endpoint,
            ca_file=ca_file,
            client_certificate=certificate,
            insecure_plaintext=plaintext,
        )
        self._exchange = ExchangeStub(self._channel)
        self._publish_call = publish_call(self._channel)
        self._catalog = CatalogStub(self._channel)
        self._subscriptions = SubscriptionsStub(self._channel)
        self._ledger = LedgerStub(self._channel)
        self._rulebook = RulebookStub(self._channel)
        self._overlays = OverlaysStub(self._channel)
        return self

    async def close(self) -> None:
        """Close streams and publishers as they do at the end of `async with`, then the connection; idempotent.

        Raises the first error of theirs: an acknowledgement or a record that is not known to have arrived.
        """
        closing = [each.close() for each in tuple(self._begun)]
        try:
            found = await asyncio.gather(*closing, return_exceptions=True)
        finally:
            await self._channel.close()
            if self._kept is not None:
                self._kept.close()
        for error in found:
            if error is not None:
                raise error

    # -- records --------------------------------------------------------------------------------------------------

    async def publish(
        self, topic: str, records: Sequence[CloudEvent], *, receipts: Path | None = None
    ) -> list[PublishOutcome]:
        """Publish in calls of a fitting size; one outcome a record, in order.

        A call that the exchange could not serve is repeated: a record that it had stored is then acknowledged as a
        duplicate. If this raises, calling it again with the same records (same ids) is safe.
        receipts: a file to which the receipt of each call is appended (see connectors.receipts); raises OSError.
        """
        published: list[PublishOutcome] = []
        kept = self._receipts(receipts, topic)
        try:
            if kept is not None:
                await kept.open()
            for batch in cut(records):
                found = await self._publish(topic, batch)
                if kept is not None:
                    kept.add_published(batch, found)
                published += found
        finally:
            if kept is not None:
                kept.close()
        return published

    async def _publish(self, topic: str, batch: Sequence[CloudEvent]) -> list[PublishOutcome]:
        try:
            response = await self._caller.unary(self._publish_call, encoded(topic, batch), publishing=True)
        except EntenteClientError as error:
            alone = refused_alone(batch, error)
            if alone is None:
                raise
            return alone
        return outcomes(batch, response.results)

    def publish_stream(
        self, topic: str, batches: Iterable[Sequence[CloudEvent]], *, receipts: Path | None = None
    ) -> AsyncIterator[list[PublishOutcome]]:
        """Publish batches (see `connectors.publishing.cut`) on one stream, a few under way at once.

        Yields each batch's outcomes in order. Repeats like `publish`; for bulk, since it reads ahead of the answers.
        """
        return self.pipe(topic, receipts).run(batches)

    def pipe(self, topic: str, receipts: Path | None = None) -> PublishPipe:
        """What `publish_stream` and `publisher` publish through."""
        return PublishPipe(self._exchange, self._caller, topic, self._receipts(receipts, topic))

    def publisher(
        self, topic: str, options: PublisherOptions | None = None, *, receipts: Path | None = None
    ) -> Publisher:
        """Publish one record at a time, to be used with `async with`; repeats and keeps receipts like `publish`."""
        publisher = Publisher(self.pipe(topic, receipts), options or PublisherOptions())
        self._begun.add(publisher)
        return publisher

    async def preview(self, topic: str, records: Sequence[CloudEvent]) -> list[exchange_pb2.RecordPreview]:
        """What each party of the caller's agreements would receive of up to 100 records; nothing is stored."""
        request = exchange_pb2.PreviewPublishRequest(topic=topic, records=records)
        response = await self._caller.unary(self._exchange.PreviewPublish, request)
        return list(response.previews)

    def subscribe(self, topic: str, purpose: str, **choices: Unpack[StreamChoices]) -> RecordStream:
        """The records of a topic for one purpose, to be used with `async with`; choices as of StreamOptions."""
        options = StreamOptions(topic, purpose, **choices)
        kept = self._receipts(options.receipts, topic)
        stream = RecordStream(self._exchange, self._caller, options, kept)
        self._begun.add(stream)
        return stream

    def keep_receipts(self, path: Path, most_bytes: int | None = None) -> None:
        """Append receipts there wherever none of its own is named (see connectors.receipts.ReceiptFile)."""
        self._kept = ReceiptFile(path, self.who_am_i, most_bytes=most_bytes)

    def _receipts(self, path: Path | None, topic: str) -> TopicReceipts | None:
        if path is not None:
            return TopicReceipts(ReceiptFile(path, self.who_am_i), topic)
        return None if self._kept is None else TopicReceipts(self._kept, topic, shared=True)

    # -- subscriptions --------------------------------------------------------------------------------------------

    async def create_subscription(
        self, name: str, topic: str, purpose: str, start: Start = "earliest"
    ) -> subscriptions_pb2.Subscription:
        """Create a subscription without opening a stream; an equal one is returned as it is, wherever it stands."""
        request = subscriptions_pb2.CreateSubscriptionRequest(name=name, topic=topic, purpose=purpose)
        getattr(request, "from").CopyFrom(seek_target(start))
        return (await self._caller.unary(self._subscriptions.CreateSubscription, request)).subscription

    async def get_subscription(self, name: str) -> subscriptions_pb2.Subscription:
        """One subscription of the caller."""
        request = subscriptions_pb2.GetSubscriptionRequest(name=name)
        return (await self._caller.unary(self._subscriptions.GetSubscription, request)).subscription

    async def list_subscriptions(self) -> list[subscriptions_pb2.Subscription]:
        """The caller's subscriptions, by name."""
        request = subscriptions_pb2.ListSubscriptionsRequest()
        response = await self._caller.unary(self._subscriptions.ListSubscriptions, request)
        return list(response.subscriptions)

    async def seek_subscription(self, name: str, to: Start) -> subscriptions_pb2.Subscription:
        """Move a subscription; an open stream on it ends. `to` may be a cursor of it, also an older one."""
        request = subscriptions_pb2.SeekSubscriptionRequest(name=name, to=seek_target(to))
        return (await self._caller.unary(self._subscriptions.SeekSubscription, request)).subscription

    async def delete_subscription(self, name: str) -> None:
        """Delete a subscription and its position."""
        request = subscriptions_pb2.DeleteSubscriptionRequest(name=name)
        await self._caller.unary(self._subscriptions.DeleteSubscription, request)

    # -- ledger ---------------------------------------------------------------------------------------------------

    @property
    def ledger(self) -> Auditing:
        """What the caller may read of the ledger."""
        return Auditing(self._ledger, self._caller)

    # -- rulebook -------------------------------------------------------------------------------------------------

    @property
    def rulebook(self) -> Administering:
        """What the caller may see and change of the rulebook."""
        return Administering(self._rulebook, self._caller)

    # -- overlays -------------------------------------------------------------------------------------------------

    @property
    def overlays(self) -> Overlaying:
        """What the caller may suspend and withdraw."""
        return Overlaying(self._overlays, self._caller)

    # -- catalog --------------------------------------------------------------------------------------------------

    async def who_am_i(self) -> catalog_pb2.WhoAmIResponse:
        """The caller as the exchange accepted it."""
        return await self._caller.unary(self._catalog.WhoAmI, catalog_pb2.WhoAmIRequest())

    async def can_i(
        self, action: Literal["publish", "subscribe"], topic: str, purpose: str = ""
    ) -> catalog_pb2.CanIResponse:
        """Whether the caller may; `purpose` is needed for subscribing."""
        wanted = catalog_pb2.ACTION_PUBLISH if action == "publish" else catalog_pb2.ACTION_SUBSCRIBE
        request = catalog_pb2.CanIRequest(action=wanted, topic=topic, purpose=purpose)
        return await self._caller.unary(self._catalog.CanI, request)

    async def topics(self) -> list[catalog_pb2.Topic]:
        """Topics that the caller may use, by name."""
        response = await self._caller.unary(self._catalog.ListTopics, catalog_pb2.ListTopicsRequest())
        return list(response.topics)

    async def record_types(self) -> list[catalog_pb2.RecordType]:
        """Record types of those topics, by name."""
        request = catalog_pb2.ListRecordTypesRequest()
        return list((await self._caller.unary(self._catalog.ListRecordTypes, request)).record_types)

    async def agencies(self) -> list[catalog_pb2.Agency]:
        """The caller's agency and those with which it has an agreement, by name."""
        response = await self._caller.unary(self._catalog.ListAgencies, catalog_pb2.ListAgenciesRequest())
        return list(response.agencies)

    async def vocabulary(self) -> catalog_pb2.GetVocabularyResponse:
        """The words that labels and tokens may use."""
        return await self._caller.unary(self._catalog.GetVocabulary, catalog_pb2.GetVocabularyRequest())
