"""The Python client of the exchange for programs without asyncio; may be used from several threads at once.

    with BlockingClient("exchange.example:7443", token_file=Path("token"), ca_file=Path("ca.pem")) as exchange:
        exchange.publish("crash-reports", [new_record(type=..., source=..., data=..., labels=...)])
        with exchange.subscribe("crash-reports", "emergency-response", subscription="intake") as stream:
            for delivery in stream:
                ...
                stream.ack(delivery)

Everything is done by connectors.client on an event loop in a thread of the client's own: what is said there of each
method holds here, errors included. Outside `with` every method raises RuntimeError.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from functools import partial, wraps
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, Unpack

from connectors.administering import Administering
from connectors.auditing import Auditing
from connectors.client import Client, ClientChoices
from connectors.delivery import Delivery, StreamChoices
from connectors.loop_thread import LoopThread
from connectors.overlaying import Overlaying
from connectors.publisher import Publisher, PublisherOptions
from connectors.publishing import UNANSWERED_BATCHES, PublishOutcome
from connectors.stream import RecordStream
from connectors.tokens import in_a_thread
from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent

_Served = TypeVar("_Served")
_Managed = TypeVar("_Managed", bound=AbstractAsyncContextManager[Any])
_Given = ParamSpec("_Given")
_Answer = TypeVar("_Answer")


class _Blocking(Generic[_Served]):
    """Something of the client, and the thread that it lives in."""

    def __init__(self, thread: LoopThread, served: _Served) -> None:
        self._thread = thread
        self._served = served

    @property
    def _open(self) -> _Served:
        """Raises RuntimeError unless the client is open."""
        self._thread.require_running()
        return self._served


def _waits(
    method: Callable[Concatenate[_Served, _Given], Coroutine[Any, Any, _Answer]],
) -> Callable[Concatenate[_Blocking[_Served], _Given], _Answer]:
    """The method that waits for the coroutine's answer."""

    @wraps(method)
    def call(self: _Blocking[_Served], /, *given: _Given.args, **named: _Given.kwargs) -> _Answer:
        return self._thread.run(lambda: method(self._served, *given, **named))

    return call


def _iterates(
    method: Callable[Concatenate[_Served, _Given], AsyncIterator[_Answer]],
) -> Callable[Concatenate[_Blocking[_Served], _Given], Iterator[_Answer]]:
    """The method that gives a plain iterator."""

    @wraps(method)
    def call(self: _Blocking[_Served], /, *given: _Given.args, **named: _Given.kwargs) -> Iterator[_Answer]:
        items = method(self._served, *given, **named)
        try:
            while (item := self._thread.run(lambda: _next(items))) is not None:
                yield item
        finally:
            if inspect.isasyncgen(items) and self._thread.running:
                self._thread.run(lambda: _end(items))

    return call


async def _next(items: AsyncIterator[_Answer]) -> _Answer | None:
    """None at the end."""
    return await anext(items, None)


async def _end(items: Any) -> None:
    await items.aclose()


class BlockingAuditing(_Blocking[Auditing]):
    """connectors.auditing.Auditing."""

    checkpoints = _waits(Auditing.checkpoints)
    entries = _iterates(Auditing.entries)
    who_saw = _waits(Auditing.who_saw)
    what_saw = _waits(Auditing.what_saw)
    prove = _waits(Auditing.prove)
    check_receipts = _waits(Auditing.check_receipts)
    replay = _iterates(Auditing.replay)


class BlockingAdministering(_Blocking[Administering]):
    """connectors.administering.Administering."""

    propose = _iterates(Administering.propose)
    rollback = _iterates(Administering.rollback)
    simulate = _iterates(Administering.simulate)
    proposal = _waits(Administering.proposal)
    proposals = _waits(Administering.proposals)
    approve = _waits(Administering.approve)
    reject = _waits(Administering.reject)
    activate = _waits(Administering.activate)
    status = _waits(Administering.status)
    log = _waits(Administering.log)
    pull = _waits(Administering.pull)
    diff = _waits(Administering.diff)
    explain = _waits(Administering.explain)


class BlockingOverlaying(_Blocking[Overlaying]):
    """connectors.overlaying.Overlaying."""

    suspend = _waits(Overlaying.suspend)
    suspensions = _waits(Overlaying.suspensions)
    ratify = _waits(Overlaying.ratify)
    lift = _waits(Overlaying.lift)
    withdraw = _waits(Overlaying.withdraw)
    withdrawal = _waits(Overlaying.withdrawal)


class _Block(_Blocking[_Managed]):
    """Something that is used with `with`."""

    def __enter__(self) -> Self:
        self._thread.run(self._served.__aenter__)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread.running:  # else the client has closed it
            self._thread.run(lambda: self._served.__aexit__(kind, error, trace))


class BlockingStream(_Block[RecordStream]):
    """connectors.stream.RecordStream as a plain iterator, to be used with `with`."""

    several = _waits(RecordStream.several)
    ack = _waits(RecordStream.ack)
    close = _waits(RecordStream.close)

    @property
    def cursor(self) -> bytes:
        """Where to resume after the last delivery handed out; empty before the stream was first open."""
        return self._served.cursor

    def __iter__(self) -> Iterator[Delivery]:
        return self

    def __next__(self) -> Delivery:
        """The next delivery. Raises as RecordStream."""
        delivery = self._thread.run(lambda: _next(self._served))
        if delivery is None:
            raise StopIteration
        return delivery


class BlockingPublisher(_Block[Publisher]):
    """connectors.publisher.Publisher, whose futures are those of threads; to be used with `with`."""

    flush = _waits(Publisher.flush)
    close = _waits(Publisher.close)

    def send(self, record: CloudEvent) -> Future[PublishOutcome]:
        """As Publisher.send; may be called by several threads, each of which keeps its order."""

        async def sent() -> Future[PublishOutcome]:
            outcome: Future[PublishOutcome] = Future()
            (await self._served.send(record)).add_done_callback(lambda told: _tell(told, outcome))
            return outcome

        return self._thread.run(sent)


def _tell(told: asyncio.Future[PublishOutcome], outcome: Future[PublishOutcome]) -> None:
    if not outcome.set_running_or_notify_cancel():
        return
    error = told.exception()
    if error is None:
        outcome.set_result(told.result())
    else:
        outcome.set_exception(error)


class BlockingClient(_Blocking[Client]):
    """One connection to an exchange, as one principal; open it with `with`, once."""

    def __init__(self, endpoint: str, **choices: Unpack[ClientChoices]) -> None:
        """As Client. A token_provider that is no coroutine function is called in a thread, and may take its time."""
        provider = choices.get("token_provider")
        if provider is not None and not inspect.iscoroutinefunction(provider):
            choices["token_provider"] = in_a_thread(provider)
        super().__init__(LoopThread(f"entente client of {endpoint}"), Client(endpoint, **choices))

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self._thread.run(self._served.__aenter__)
        except BaseException:
            self._thread.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread.running:
            try:
                self._thread.run(lambda: self._served.__aexit__(kind, error, trace))
            finally:
                self._thread.stop()

    def close(self) -> None:
        """As Client.close; idempotent. What other threads still wait for ends with an error."""
        self.__exit__(None, None, None)

    publish = _waits(Client.publish)
    preview = _waits(Client.preview)
    create_subscription = _waits(Client.create_subscription)
    get_subscription = _waits(Client.get_subscription)
    list_subscriptions = _waits(Client.list_subscriptions)
    seek_subscription = _waits(Client.seek_subscription)
    delete_subscription = _waits(Client.delete_subscription)
    who_am_i = _waits(Client.who_am_i)
    can_i = _waits(Client.can_i)
    topics = _waits(Client.topics)
    record_types = _waits(Client.record_types)
    agencies = _waits(Client.agencies)
    vocabulary = _waits(Client.vocabulary)

    def publish_stream(
        self, topic: str, batches: Iterable[Sequence[CloudEvent]], *, receipts: Path | None = None
    ) -> Iterator[list[PublishOutcome]]:
        """As Client.publish_stream; `batches` is read in the thread that reads the outcomes."""
        pipe, run = self._open.pipe(topic, receipts), self._thread.run
        run(pipe.__aenter__)
        try:
            for batch in batches:
                run(partial(pipe.put, batch))
                if pipe.unanswered >= UNANSWERED_BATCHES:
                    yield run(pipe.answer)
            while pipe.unanswered:
                yield run(pipe.answer)
        finally:
            if self._thread.running:
                run(pipe.__aexit__)

    def keep_receipts(self, path: Path, most_bytes: int | None = None) -> None:
        """As Client.keep_receipts."""
        self._served.keep_receipts(path, most_bytes)

    def publisher(
        self, topic: str, options: PublisherOptions | None = None, *, receipts: Path | None = None
    ) -> BlockingPublisher:
        """As Client.publisher."""

        async def made() -> Publisher:  # what the client keeps of it belongs to its thread
            return self._served.publisher(topic, options, receipts=receipts)

        return BlockingPublisher(self._thread, self._thread.run(made))

    def subscribe(self, topic: str, purpose: str, **choices: Unpack[StreamChoices]) -> BlockingStream:
        """As Client.subscribe."""

        async def made() -> RecordStream:
            return self._served.subscribe(topic, purpose, **choices)

        return BlockingStream(self._thread, self._thread.run(made))

    @property
    def ledger(self) -> BlockingAuditing:
        """What the caller may read of the ledger."""
        return BlockingAuditing(self._thread, self._open.ledger)

    @property
    def rulebook(self) -> BlockingAdministering:
        """What the caller may see and change of the rulebook."""
        return BlockingAdministering(self._thread, self._open.rulebook)

    @property
    def overlays(self) -> BlockingOverlaying:
        """What the caller may suspend and withdraw."""
        return BlockingOverlaying(self._thread, self._open.overlays)
