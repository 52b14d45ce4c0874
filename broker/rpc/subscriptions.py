"""The Subscriptions service."""

from __future__ import annotations

from broker.core.places import Start, StartAt
from broker.core.subscriptions import SubscriptionDesk
from broker.model.subscription import Subscription
from broker.rpc.call import Call
from broker.rpc.times import milliseconds
from protos.entente.v1 import subscriptions_pb2


class SubscriptionsServicer:
    """Translates between protobuf and the subscription use cases."""

    def __init__(self, desk: SubscriptionDesk) -> None:
        self._desk = desk

    async def create(self, call: Call) -> None:
        """Subscriptions.CreateSubscription."""
        request = subscriptions_pb2.CreateSubscriptionRequest.FromString(call.request)
        start = _start(getattr(request, "from"))
        created = await self._desk.create(call.caller, request.name, request.topic, request.purpose, start)
        call.response = subscriptions_pb2.CreateSubscriptionResponse(
            subscription=self._shown(created)
        ).SerializeToString()

    async def get(self, call: Call) -> None:
        """Subscriptions.GetSubscription."""
        request = subscriptions_pb2.GetSubscriptionRequest.FromString(call.request)
        found = await self._desk.get(call.caller, request.name)
        call.response = subscriptions_pb2.GetSubscriptionResponse(
            subscription=self._shown(found)
        ).SerializeToString()

    async def list(self, call: Call) -> None:
        """Subscriptions.ListSubscriptions."""
        subscriptions_pb2.ListSubscriptionsRequest.FromString(call.request)
        found = [self._shown(subscription) for subscription in await self._desk.list(call.caller)]
        call.response = subscriptions_pb2.ListSubscriptionsResponse(subscriptions=found).SerializeToString()

    async def delete(self, call: Call) -> None:
        """Subscriptions.DeleteSubscription."""
        request = subscriptions_pb2.DeleteSubscriptionRequest.FromString(call.request)
        await self._desk.delete(call.caller, request.name)
        call.response = subscriptions_pb2.DeleteSubscriptionResponse().SerializeToString()

    async def seek(self, call: Call) -> None:
        """Subscriptions.SeekSubscription."""
        request = subscriptions_pb2.SeekSubscriptionRequest.FromString(call.request)
        moved = await self._desk.seek(call.caller, request.name, _start(request.to))
        call.response = subscriptions_pb2.SeekSubscriptionResponse(
            subscription=self._shown(moved)
        ).SerializeToString()

    def _shown(self, subscription: Subscription) -> subscriptions_pb2.Subscription:
        shown = subscriptions_pb2.Subscription(
            name=subscription.key.name,
            topic=subscription.topic,
            purpose=subscription.purpose,
            cursor=self._desk.cursor(subscription),
        )
        shown.create_time.FromMilliseconds(subscription.created_ms)
        shown.update_time.FromMilliseconds(subscription.updated_ms)
        return shown


def _start(target: subscriptions_pb2.SeekTarget) -> StartAt:
    match target.WhichOneof("target"):
        case "time":
            return StartAt(time_ms=milliseconds(target.time))
        case "cursor":
            return StartAt(cursor=target.cursor)
        case "latest" if target.latest:
            return StartAt(place=Start.LATEST)
        case _:
            return StartAt(place=Start.EARLIEST)
