"""A topic of an exchange as a sink sees it, in memory: batches, cursors, acknowledgements, and streams that break."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from types import SimpleNamespace
from typing import Any, Self

from connectors.delivery import Delivery
from connectors.errors import EntenteClientError, error_of


class FakeTopic:
    """Hands out batches from where the subscription stands; a cursor is a batch's number as text.

    failures: raised by the next streams, after so many batches each. more: set it when there are more batches, or when
    `heartbeat` is to be sent, a cursor. gone: how many batches have fallen out of retention.
    """

    def __init__(self, batches: Sequence[Sequence[Delivery]]) -> None:
        self.batches = [list(batch) for batch in batches]
        self.position: int | None = None
        self.acked: list[bytes] = []
        self.seeks: list[Any] = []
        self.failures: list[tuple[int, EntenteClientError]] = []
        self.choices: dict[str, Any] = {}
        self.more = asyncio.Event()
        self.heartbeat: bytes | None = None
        self.gone = 0
        self.open_streams = 0

    async def create_subscription(self, name: str, topic: str, purpose: str, start: Any) -> SimpleNamespace:
        """As the client's."""
        if self.position is None:
            self.position = (
                int(start) if isinstance(start, bytes) else 0 if start == "earliest" else len(self.batches)
            )
        return SimpleNamespace(cursor=str(self.position).encode())

    async def seek_subscription(self, name: str, to: Any) -> SimpleNamespace:
        """As the client's."""
        if self.position is None:
            raise error_of("SUBSCRIPTION_NOT_FOUND", "no such subscription", code="NOT_FOUND")
        self.seeks.append(to)
        self.position = None
        return await self.create_subscription(name, "", "", to)

    def subscribe(self, topic: str, purpose: str, **choices: Any) -> FakeStream:
        """As the client's."""
        self.choices = {"topic": topic, "purpose": purpose, **choices}
        return FakeStream(self)

    async def can_i(self, action: str, topic: str, purpose: str = "") -> SimpleNamespace:
        """As the client's, as far as connectors look."""
        return SimpleNamespace(permitted=topic != "closed")


class FakeStream:
    """One session."""

    def __init__(self, topic: FakeTopic) -> None:
        self._topic = topic
        self._cursor = b""
        self._deliveries = aiter(self)
        self.caught_up = False

    @property
    def cursor(self) -> bytes:
        """As a stream's."""
        return self._cursor

    async def __aenter__(self) -> Self:
        self._topic.open_streams += 1
        assert self._topic.open_streams == 1, "two streams at once"
        assert self._topic.position is not None
        self._cursor = str(self._topic.position).encode()
        return self

    async def close(self) -> None:
        """As a stream's."""
        self._topic.open_streams -= 1

    async def ack(self, delivery: Delivery) -> None:
        """As a stream's."""
        self._topic.acked.append(delivery.cursor)
        self._topic.position = int(delivery.cursor)

    async def several(self, most: int) -> list[Delivery]:
        """As a stream's, one by one."""
        assert most > 0
        return [await anext(self._deliveries)]

    async def __aiter__(self) -> AsyncIterator[Delivery]:
        topic = self._topic
        after, error = topic.failures.pop(0) if topic.failures else (10**9, None)
        at = topic.position or 0
        if at < topic.gone:
            if topic.choices["on_expired"] == "fail":
                raise error_of("POSITION_EXPIRED", "gone", code="OUT_OF_RANGE")
            at = topic.gone
        while True:
            if after == 0 and error is not None:
                raise error
            if at == len(topic.batches):
                topic.more.clear()
                await topic.more.wait()
                self._cursor, self.caught_up = topic.heartbeat or self._cursor, topic.heartbeat is not None
                continue
            before, at, after = str(at).encode(), at + 1, after - 1
            last = len(topic.batches[at - 1]) - 1
            for index, delivery in enumerate(topic.batches[at - 1]):
                ends = index == last
                self._cursor, self.caught_up = str(at).encode() if ends else before, False
                yield delivery._replace(cursor=self._cursor, ends_batch=ends)
