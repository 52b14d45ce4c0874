"""The Catalog service."""

from __future__ import annotations

from broker.core.catalog import Catalog, Permission, VisibleTopic
from broker.core.in_force import InForce
from broker.core.regime import Regime
from broker.errors import EntenteError, Reason
from broker.model.registry import Agreement, RecordType
from broker.ports.clock import Clock
from broker.rpc.call import Call
from protos.entente.v1 import catalog_pb2


class CatalogServicer:
    """Translates between protobuf and the catalog."""

    def __init__(self, in_force: InForce[Regime], clock: Clock) -> None:
        self._in_force = in_force
        self._clock = clock

    @property
    def _catalog(self) -> Catalog:
        """That of the rules in force: each method looks once."""
        return self._in_force.present.regime.catalog

    async def who_am_i(self, call: Call) -> None:
        """Catalog.WhoAmI."""
        catalog_pb2.WhoAmIRequest.FromString(call.request)
        caller = call.caller
        response = catalog_pb2.WhoAmIResponse(
            agency=caller.agency,
            subject=caller.subject,
            roles=sorted(caller.roles),
            purposes=sorted(caller.purposes),
            attributes=dict(caller.attributes),
            agreements=[_agreement(agreement) for agreement in self._catalog.agreements(caller)],
        )
        response.expire_time.FromDatetime(caller.expires_at)
        response.server_time.FromMilliseconds(self._clock.now_ms())
        call.response = response.SerializeToString()

    async def can_i(self, call: Call) -> None:
        """Catalog.CanI."""
        request = catalog_pb2.CanIRequest.FromString(call.request)
        if request.action == catalog_pb2.ACTION_PUBLISH:
            permission = await self._catalog.can_publish(call.caller, request.topic)
        elif request.action == catalog_pb2.ACTION_SUBSCRIBE:
            permission = await self._catalog.can_subscribe(call.caller, request.topic, request.purpose)
        else:
            raise EntenteError(Reason.REQUEST_INVALID, "action is neither PUBLISH nor SUBSCRIBE")
        call.response = _permission(permission).SerializeToString()

    async def list_topics(self, call: Call) -> None:
        """Catalog.ListTopics."""
        catalog_pb2.ListTopicsRequest.FromString(call.request)
        topics = [_topic(visible) for visible in await self._catalog.topics(call.caller)]
        call.response = catalog_pb2.ListTopicsResponse(topics=topics).SerializeToString()

    async def list_record_types(self, call: Call) -> None:
        """Catalog.ListRecordTypes."""
        catalog_pb2.ListRecordTypesRequest.FromString(call.request)
        found = await self._catalog.record_types(call.caller)
        types = [_record_type(record_type, markings) for record_type, markings in found.values()]
        call.response = catalog_pb2.ListRecordTypesResponse(record_types=types).SerializeToString()

    async def list_agencies(self, call: Call) -> None:
        """Catalog.ListAgencies."""
        catalog_pb2.ListAgenciesRequest.FromString(call.request)
        agencies = [
            catalog_pb2.Agency(name=agency.name, title=agency.title, contact=agency.contact)
            for agency in self._catalog.agencies(call.caller)
        ]
        call.response = catalog_pb2.ListAgenciesResponse(agencies=agencies).SerializeToString()

    async def get_vocabulary(self, call: Call) -> None:
        """Catalog.GetVocabulary."""
        catalog_pb2.GetVocabularyRequest.FromString(call.request)
        words = self._catalog.vocabulary
        call.response = catalog_pb2.GetVocabularyResponse(
            classifications=words.classifications,
            purposes=sorted(words.purposes),
            regulations=sorted(words.regulations),
            categories=sorted(words.categories),
            markings=sorted(words.markings),
        ).SerializeToString()


def _permission(permission: Permission) -> catalog_pb2.CanIResponse:
    return catalog_pb2.CanIResponse(
        permitted=permission.permitted,
        agreements=[_agreement(agreement) for agreement in permission.agreements],
        record_types=permission.record_types,
    )


def _agreement(agreement: Agreement) -> catalog_pb2.AgreementSummary:
    return catalog_pb2.AgreementSummary(
        owner=agreement.owner,
        topics=sorted(agreement.topics),
        purposes=sorted(agreement.purposes),
        highest_classification=agreement.highest,
        grants=agreement.grants,
    )


def _topic(visible: VisibleTopic) -> catalog_pb2.Topic:
    topic = visible.topic
    return catalog_pb2.Topic(
        name=topic.name,
        description=topic.description,
        steward=topic.steward,
        record_types=visible.record_types,
        retention_s=topic.retention_s or 0,
        may_publish=bool(visible.publish_types),
        subscribe_purposes=visible.subscribe_purposes,
    )


def _record_type(record_type: RecordType, with_markings: bool) -> catalog_pb2.RecordType:
    fields = record_type.fields.items() if with_markings else ()
    return catalog_pb2.RecordType(
        name=record_type.name,
        owner=record_type.owner,
        description=record_type.description,
        content_type=record_type.content_type,
        fields=[catalog_pb2.FieldMarking(path=path, markings=sorted(markings)) for path, markings in fields],
    )
