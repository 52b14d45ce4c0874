"""What is asked of a cluster can be given up at any moment: a task that went on would be waited for without end."""

from __future__ import annotations

import asyncio
import threading
from typing import cast

import pytest

from broker.adapters.kafka.admin import ClusterAdmin
from broker.adapters.kafka.connection import KafkaConnection

TURNS = 6
"""Of the event loop, more than an answer takes to its caller."""


class _Client:
    def close(self) -> None:
        """Nothing is open."""


class _Connection:
    def admin(self) -> _Client:
        return _Client()


@pytest.mark.parametrize("turns", range(TURNS))
async def test_a_cancellation_counts_also_if_it_comes_with_the_answer(turns: int) -> None:
    admin = ClusterAdmin(cast(KafkaConnection, _Connection()))
    answered, asked_again = threading.Event(), 0

    async def ask_on() -> None:
        nonlocal asked_again
        await admin.call(lambda _: answered.wait())
        asked_again += 1
        await asyncio.Event().wait()

    asking = asyncio.ensure_future(ask_on())
    await asyncio.sleep(0)
    answered.set()
    # Afterwards the answer is in the loop's queue, and has not had a turn.
    admin._thread.submit(lambda: None).result()
    for _ in range(turns):
        await asyncio.sleep(0)
    came = asked_again
    asking.cancel()
    for _ in range(TURNS):
        await asyncio.sleep(0)
    assert asking.cancelled()
    assert asked_again == came
    await admin.close()
