"""The client without asyncio: the same methods, used from threads, interrupted, closed."""

from __future__ import annotations

import asyncio
import inspect
import signal
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from pathlib import Path
from typing import Any, get_type_hints

import grpc
import pytest

from connectors.administering import Administering
from connectors.auditing import Auditing
from connectors.blocking import (
    BlockingAdministering,
    BlockingAuditing,
    BlockingClient,
    BlockingOverlaying,
    BlockingPublisher,
    BlockingStream,
    _Blocking,
    _iterates,
)
from connectors.client import Client, ClientChoices
from connectors.errors import NotFound, Unavailable
from connectors.loop_thread import LoopThread
from connectors.overlaying import Overlaying
from connectors.publisher import Publisher, PublisherOptions
from connectors.stream import RecordStream
from tests.services.exchange import Script, running_exchange
from tests.services.ports import free_port
from tests.unit.test_client_calls import QUICK, record

on_one_loop = pytest.mark.asyncio(loop_scope="session")  # grpc.aio keeps to one event loop a process

PAIRS = [
    (Client, BlockingClient),
    (Auditing, BlockingAuditing),
    (Administering, BlockingAdministering),
    (Overlaying, BlockingOverlaying),
    (RecordStream, BlockingStream),
    (Publisher, BlockingPublisher),
]
INNER = {"pipe"}  # of the client, for what is built on it


def blocking(endpoint: str, **changes: Any) -> BlockingClient:
    """A quick client without TLS, not yet open."""
    return BlockingClient(endpoint, **({"token": "t", "insecure_plaintext": True, "retry": QUICK} | changes))


async def using(script: Script, use: Callable[[BlockingClient], Any], **changes: Any) -> Any:
    """What `use` returns, run in a thread with an open client of a running exchange."""

    def used(endpoint: str) -> Any:
        with blocking(endpoint, **changes) as exchange:
            return use(exchange)

    async with running_exchange(script) as endpoint:
        return await asyncio.to_thread(used, endpoint)


def threads() -> list[str]:
    """The clients' threads that run."""
    return [each.name for each in threading.enumerate() if each.name.startswith("entente")]


@pytest.mark.parametrize(("served", "without"), PAIRS, ids=lambda kind: kind.__name__)
def test_every_method_is_there_with_the_same_parameters(served: type, without: type) -> None:
    for name in (each for each in vars(served) if not each.startswith("_") and each not in INNER):
        own, theirs = getattr(without, name), getattr(served, name)
        if isinstance(theirs, property):
            assert isinstance(own, property)
        elif (served, name) != (Client, "close"):
            assert not inspect.iscoroutinefunction(own)
            assert list(inspect.signature(own).parameters) == list(inspect.signature(theirs).parameters), name


def test_the_choices_are_the_arguments_of_the_client() -> None:
    arguments = get_type_hints(Client.__init__)
    del arguments["endpoint"], arguments["return"]
    assert get_type_hints(ClientChoices) == arguments


@on_one_loop
async def test_records_are_published_read_and_acknowledged() -> None:
    script = Script()

    def use(exchange: BlockingClient) -> list[str]:
        assert exchange.who_am_i().agency == "ems"
        assert [each.position for each in exchange.publish("t", [record(1)])] == [b"00000000"]
        answered = exchange.publish_stream("t", ([record(number)] for number in range(2, 9)))
        assert [outcome.id for each in answered for outcome in each] == [str(n) for n in range(2, 9)]
        with exchange.publisher("t") as publisher:
            sent = [publisher.send(record(number)) for number in range(9, 11)]
        assert [each.result(0).id for each in sent] == ["9", "10"]
        found = []
        with exchange.subscribe("t", "p", subscription="s", limit=10) as stream:
            for delivery in stream:
                assert delivery.record is not None
                found.append(delivery.record.id)
                stream.ack(delivery)
            assert stream.cursor == b"1:10"
        return found

    assert await using(script, use) == [str(number) for number in range(1, 11)]
    assert script.positions == {"s": 10}
    assert threads() == []


@on_one_loop
async def test_errors_are_those_of_the_client() -> None:
    script = Script()
    script.refusals.append((grpc.StatusCode.NOT_FOUND, "TOPIC_NOT_FOUND"))

    def use(exchange: BlockingClient) -> None:
        with pytest.raises(NotFound):
            exchange.publish("t", [record(1)])
        with pytest.raises(ZeroDivisionError), exchange.subscribe("t", "p"):
            raise ZeroDivisionError

    await using(script, use)
    with pytest.raises(Unavailable), blocking(f"127.0.0.1:{free_port()}") as exchange:
        await asyncio.to_thread(exchange.who_am_i)


@on_one_loop
async def test_several_threads_share_a_client() -> None:
    script = Script()

    def use(exchange: BlockingClient) -> list[Any]:
        def one(thread: int) -> list[str]:
            with exchange.publisher("t") as publisher:
                sent = [publisher.send(record(thread * 100 + number)) for number in range(20)]
            return [each.result(0).id for each in sent]

        with ThreadPoolExecutor(8) as pool:
            return list(pool.map(one, range(8)))

    found = await using(script, use)
    assert found == [[str(thread * 100 + number) for number in range(20)] for thread in range(8)]
    assert sorted(int(each.id) for each in script.log) == sorted(int(each) for ids in found for each in ids)


@on_one_loop
async def test_what_is_used_outside_with_says_so(tmp_path: Path) -> None:
    async with running_exchange(Script(log=[record(1)])) as endpoint:
        exchange = blocking(endpoint)
        with pytest.raises(RuntimeError, match="inside `with`"):
            exchange.who_am_i()
        with pytest.raises(RuntimeError, match="inside `with`"):
            exchange.subscribe("t", "p")
        with exchange:
            ledger = exchange.ledger
            publisher = exchange.publisher("t")
            with pytest.raises(RuntimeError, match="inside"):
                publisher.send(record(1))
            stream = exchange.subscribe("t", "p")
            with pytest.raises(RuntimeError, match="inside"):
                next(stream)
        uses: list[Callable[[], Any]] = [
            exchange.who_am_i,
            lambda: exchange.publish("t", []),
            lambda: list(exchange.publish_stream("t", [])),
            lambda: list(ledger.entries()),
            lambda: next(stream),
            lambda: publisher.send(record(1)),
            publisher.flush,
            lambda: exchange.subscribe("t", "p"),
            lambda: exchange.publisher("t"),
        ]
        for use in uses:
            with pytest.raises(RuntimeError, match="inside `with`"):
                use()
        exchange.close()
        with pytest.raises(RuntimeError), exchange:
            pytest.fail("a client was opened a second time")


def test_what_cannot_be_opened_leaves_no_thread(tmp_path: Path) -> None:
    with (
        pytest.raises(OSError, match="absent"),
        blocking("127.0.0.1:1", insecure_plaintext=False, ca_file=tmp_path / "absent"),
    ):
        pytest.fail("opened")
    assert threads() == []


@on_one_loop
async def test_closing_drains_and_ends_what_other_threads_wait_for() -> None:
    script = Script(log=[record(0)])

    def use(exchange: BlockingClient) -> Future[list[str]]:
        begun = threading.Event()
        read: list[str] = []

        def reading() -> list[str]:
            with exchange.subscribe("t", "p", subscription="s") as stream:
                for delivery in stream:
                    assert delivery.record is not None
                    read.append(delivery.record.id)
                    stream.ack(delivery)
                    begun.set()
            return read

        pool = ThreadPoolExecutor(1)
        waiting = pool.submit(reading)
        assert begun.wait(60)
        publisher = exchange.publisher("t", PublisherOptions(linger_s=600.0)).__enter__()
        sent = publisher.send(record(1))
        exchange.close()
        assert sent.result(0).position is not None
        wait_for([waiting], 60)
        pool.shutdown()
        return waiting

    waiting = await using(script, use)
    error = waiting.exception(0)
    assert error is None or "closed" in str(error) or "inside" in str(error)
    assert script.positions["s"] >= 1
    assert [each.id for each in script.log] == ["0", "1"]
    assert threads() == []


class Counting:
    """Has a method that gives items one by one."""

    def __init__(self) -> None:
        self.ended = threading.Event()

    async def count(self, until: int) -> AsyncIterator[int]:
        try:
            for number in range(1, until + 1):
                await asyncio.sleep(0)
                yield number
            raise ZeroDivisionError
        finally:
            self.ended.set()


class BlockingCounting(_Blocking[Counting]):
    count = _iterates(Counting.count)


def test_what_comes_one_by_one_is_a_plain_iterator_that_may_be_left() -> None:
    thread = LoopThread("entente test")
    thread.start()
    counting = Counting()
    numbers = iter(BlockingCounting(thread, counting).count(3))
    assert next(numbers) == 1
    assert not counting.ended.is_set()
    del numbers
    assert counting.ended.is_set()
    numbers = BlockingCounting(thread, Counting()).count(until=2)
    assert [next(numbers), next(numbers)] == [1, 2]
    with pytest.raises(ZeroDivisionError):
        next(numbers)
    left = BlockingCounting(thread, Counting()).count(3)
    assert next(left) == 1
    thread.stop()
    with pytest.raises(RuntimeError, match="inside `with`"):
        next(left)


class Endless:
    """A coroutine that waits for ever, and notes when it began and when it was cancelled."""

    def __init__(self) -> None:
        self.begun, self.cancelled = threading.Event(), threading.Event()

    async def run(self) -> None:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()


def test_a_call_that_is_interrupted_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    endless, begin = Endless(), asyncio.run_coroutine_threadsafe

    class Interrupted:
        def __init__(self, *given: Any) -> None:
            self.cancel = begin(*given).cancel

        def result(self) -> None:
            assert endless.begun.wait(60)
            raise KeyboardInterrupt

    thread = LoopThread("entente test")
    thread.start()
    with monkeypatch.context() as patch:
        patch.setattr(asyncio, "run_coroutine_threadsafe", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            thread.run(endless.run)
    assert endless.cancelled.wait(60)
    thread.stop()


def test_an_interrupt_reaches_the_thread_that_waits_and_nothing_is_left_behind() -> None:
    endless = Endless()

    async def interrupting() -> None:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        await endless.run()

    thread = LoopThread("entente test")
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        thread.run(interrupting)
    thread.stop()
    assert endless.cancelled.is_set()
    assert threads() == []


def test_what_a_client_calls_itself_cannot_use_it() -> None:
    thread = LoopThread("entente test")
    thread.start()

    async def within() -> None:
        thread.run(lambda: asyncio.sleep(0))

    with pytest.raises(RuntimeError, match="by what it calls itself"):
        thread.run(within)
    thread.stop()
    thread.stop()


@on_one_loop
async def test_a_provider_may_block_and_use_the_threads_of_others() -> None:
    script = Script()
    here: list[threading.Thread] = []

    def provide() -> str:
        here.append(threading.current_thread())
        return "given"

    async def provide_soon() -> str:
        return "soon"

    def use(exchange: BlockingClient) -> str:
        return exchange.who_am_i().agency

    assert await using(script, use, token=None, token_provider=provide) == "ems"
    assert await using(script, use, token=None, token_provider=provide_soon) == "ems"
    assert not here[0].name.startswith("entente")
    assert script.tokens == ["Bearer given", "Bearer soon"]
