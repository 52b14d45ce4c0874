"""A topic that the caller may not know is answered, on every method, like one that does not exist (design rule 6)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from protos.entente.v1 import catalog_pb2, exchange_pb2, subscriptions_pb2
from tests.integration.exchange.failure import Failure, failure_in
from tests.integration.exchange.live import Caller, Live
from tests.integration.exchange.records import event

pytestmark = [pytest.mark.opa, pytest.mark.asyncio(loop_scope="session")]

HIDDEN, MISSING = "vulnerabilities", "no-such-topic-x"
Ask = Callable[[Caller, str], Awaitable[Failure]]


async def publish(caller: Caller, topic: str) -> Failure:
    request = exchange_pb2.PublishRequest(topic=topic, records=[event("t.v1", "//ems/x", {})])
    return await failure_in(caller.exchange.Publish(request, metadata=caller.metadata))


async def preview(caller: Caller, topic: str) -> Failure:
    request = exchange_pb2.PreviewPublishRequest(topic=topic, records=[event("t.v1", "//ems/x", {})])
    return await failure_in(caller.exchange.PreviewPublish(request, metadata=caller.metadata))


async def subscribe(caller: Caller, topic: str) -> Failure:
    async with caller.stream(topic) as stream:
        return await stream.failure()


async def subscribe_with_a_cursor(caller: Caller, topic: str) -> Failure:
    async with caller.stream(topic, cursor=b"x" * 40) as stream:
        return await stream.failure()


async def create(caller: Caller, topic: str) -> Failure:
    request = subscriptions_pb2.CreateSubscriptionRequest(
        name="s", topic=topic, purpose=caller.person.purpose
    )
    return await failure_in(caller.subscriptions.CreateSubscription(request, metadata=caller.metadata))


@pytest.mark.parametrize("ask", [publish, preview, subscribe, subscribe_with_a_cursor, create])
async def test_hidden_and_missing_are_told_apart_by_nothing(live: Live, ask: Ask) -> None:
    hidden, missing = await ask(live.caller("ems"), HIDDEN), await ask(live.caller("ems"), MISSING)
    hidden.check_shape()
    missing.check_shape()
    assert hidden.reason == missing.reason == "TOPIC_NOT_FOUND"
    assert hidden.code is missing.code
    assert hidden.message.replace(HIDDEN, MISSING) == missing.message
    assert hidden.info is not None
    assert missing.info is not None
    assert set(hidden.info.metadata) == set(missing.info.metadata) == {"reference"}


@pytest.mark.parametrize("action", [catalog_pb2.ACTION_PUBLISH, catalog_pb2.ACTION_SUBSCRIBE])
async def test_can_i_answers_no_to_both(live: Live, action: catalog_pb2.Action.ValueType) -> None:
    caller = live.caller("ems")
    answers = [
        await caller.catalog.CanI(
            catalog_pb2.CanIRequest(action=action, topic=topic, purpose=caller.person.purpose),
            metadata=caller.metadata,
        )
        for topic in (HIDDEN, MISSING)
    ]
    assert answers == [catalog_pb2.CanIResponse(permitted=False)] * 2


@pytest.mark.parametrize("topic", ["", "x" * 100_000, "two\nlines", "Ünïcode\u202e", "a\x00b"])
@pytest.mark.parametrize("ask", [publish, subscribe, create])
async def test_what_is_no_name_is_not_echoed(live: Live, ask: Ask, topic: str) -> None:
    failure = await ask(live.caller("ems"), topic)
    failure.check_shape()
    assert failure.reason == "TOPIC_NOT_FOUND"
    assert not topic or topic not in failure.message


async def test_another_principals_subscription_is_answered_like_a_missing_one(live: Live) -> None:
    owner, other = live.caller("ems"), live.caller("ems", subject="paramedic-2")
    async with owner.stream("crash-reports", subscription="mine") as stream:
        await stream.opened()
    request = subscriptions_pb2.GetSubscriptionRequest
    existing = await failure_in(
        other.subscriptions.GetSubscription(request(name="mine"), metadata=other.metadata)
    )
    missing = await failure_in(
        other.subscriptions.GetSubscription(request(name="none"), metadata=other.metadata)
    )
    assert existing.reason == missing.reason == "SUBSCRIPTION_NOT_FOUND"
    assert existing.message.replace("mine", "none") == missing.message
