"""The Exchange service: publish."""

from __future__ import annotations

from collections.abc import Sequence

from broker.core.preview import PartyOutlook, Previewer, RecordOutlook
from broker.core.publish import Outcome, Publisher
from broker.errors import EntenteError, Reason
from broker.ports.clock import Clock
from broker.rpc.call import Call
from broker.rpc.quotas import Quotas
from protos.entente.v1 import exchange_pb2
from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent

PREVIEW_RECORDS = 100


class ExchangeServicer:
    """Translates between protobuf and the publish and preview use cases."""

    def __init__(
        self,
        *,
        publisher: Publisher,
        previewer: Previewer,
        quotas: Quotas,
        clock: Clock,
        batch_records: int,
        message_bytes: int,
    ) -> None:
        self._publisher = publisher
        self._previewer = previewer
        self._quotas = quotas
        self._clock = clock
        self._batch_records = batch_records
        self._message_bytes = message_bytes

    async def publish(self, call: Call) -> None:
        """Exchange.Publish."""
        request = exchange_pb2.PublishRequest.FromString(call.request)
        response = exchange_pb2.PublishResponse()
        await self._publish(call, request.topic, request.records, len(call.request), response)
        call.response = response.SerializeToString()

    async def publish_stream(self, call: Call) -> None:
        """Exchange.PublishStream."""
        with self._quotas.stream(call.caller.agency):
            async for message in call.messages():
                if len(message) > self._message_bytes:
                    raise EntenteError(Reason.MESSAGE_TOO_LARGE, str(self._message_bytes))
                _require_unexpired(call, self._clock)
                request = exchange_pb2.PublishStreamRequest.FromString(message)
                response = exchange_pb2.PublishStreamResponse()
                await self._publish(call, request.topic, request.records, len(message), response)
                await call.write(response.SerializeToString())

    async def preview_publish(self, call: Call) -> None:
        """Exchange.PreviewPublish."""
        request = exchange_pb2.PreviewPublishRequest.FromString(call.request)
        _check_count(len(request.records), PREVIEW_RECORDS)
        self._quotas.take_publish(call.caller.agency, len(request.records), len(call.request))
        outlooks = await self._previewer.preview(call.caller, request.topic, request.records, call.reference)
        previews = [_preview(outlook, call.reference) for outlook in outlooks]
        call.response = exchange_pb2.PreviewPublishResponse(previews=previews).SerializeToString()

    async def _publish(
        self,
        call: Call,
        topic: str,
        records: Sequence[CloudEvent],
        size_bytes: int,
        response: exchange_pb2.PublishResponse | exchange_pb2.PublishStreamResponse,
    ) -> None:
        _check_count(len(records), self._batch_records)
        self._quotas.take_publish(call.caller.agency, len(records), size_bytes)
        outcomes = await self._publisher.publish(call.caller, topic, records, call.reference)
        # Filled in place, since a message that is put into another is copied.
        add = response.results.add
        for outcome in outcomes:
            _fill(add(), outcome, call.reference)


def _check_count(count: int, limit: int) -> None:
    if not 1 <= count <= limit:
        raise EntenteError(Reason.REQUEST_INVALID, f"records are not 1 to {limit}")


def _require_unexpired(call: Call, clock: Clock) -> None:
    """Raises TOKEN_EXPIRED once the call's token has expired, as a stream outlives its start."""
    if call.caller.expires_at.timestamp() * 1000 <= clock.now_ms():
        raise EntenteError(Reason.TOKEN_EXPIRED)


def _fill(result: exchange_pb2.PublishResult, outcome: Outcome, reference: str) -> None:
    if isinstance(outcome, EntenteError):
        result.refused.CopyFrom(_refusal(outcome, reference))
        return
    accepted = result.accepted
    accepted.position, accepted.receipt = outcome.position, outcome.receipt
    accepted.duplicate = outcome.duplicate


def _refusal(error: EntenteError, reference: str) -> exchange_pb2.PublishRefusal:
    return exchange_pb2.PublishRefusal(reason=error.reason.name, message=str(error), reference=reference)


def _preview(outlook: RecordOutlook, reference: str) -> exchange_pb2.RecordPreview:
    if outlook.refusal is not None:
        return exchange_pb2.RecordPreview(refusal=_refusal(outlook.refusal, reference))
    parties = [_party(party) for party in outlook.parties]
    return exchange_pb2.RecordPreview(parties=parties, unreviewed_paths=outlook.unreviewed_paths)


def _party(party: PartyOutlook) -> exchange_pb2.PartyPreview:
    preview = exchange_pb2.PartyPreview(
        agency=party.agency,
        purpose=party.purpose,
        roles=party.roles,
        effect=exchange_pb2.Effect.Value(f"EFFECT_{party.effect.name}"),
    )
    if party.delivery is not None:
        preview.record.CopyFrom(party.delivery.record)
        preview.disclosure.CopyFrom(party.delivery.disclosure)
    return preview
