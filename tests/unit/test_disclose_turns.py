"""Redaction of large documents leaves the event loop to the others (design rule 8)."""

from __future__ import annotations

from dataclasses import replace

from broker.core.deliver.disclose import Discloser
from broker.core.deliver.view import RecordViews
from broker.model.decision import Decision, Effect, Treatment, TreatmentKind
from broker.model.principal import SubjectClass
from broker.model.record import StoredRecord
from broker.model.registry import Registry
from protos.entente.v1.exchange_pb2 import Batch
from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent
from tests.fakes.delivery import TOPIC, TYPE, FixedKeys, registry
from tests.fakes.turns import turns_of_others

_READER = SubjectClass("reader", ("r",), (), "work")
_PSEUDONYMS = Decision(Effect.RELEASE, {"pii": Treatment(TreatmentKind.PSEUDONYM)})


def marked() -> Registry:
    known = registry()
    fields = {"$[*].name": ("pii",)}
    return replace(known, record_types={TYPE: replace(known.record_types[TYPE], fields=fields)})


async def encoded(people: int) -> tuple[bytes, int]:
    """A delivery of so many pseudonyms, and how often another task had its turn meanwhile."""
    known = marked()
    data = "[" + ",".join('{"name":1}' for _ in range(people)) + "]"
    event = CloudEvent(id="1", source="//alpha/x", spec_version="1.0", type=TYPE, text_data=data)
    event.attributes["dataclassification"].ce_string = "green"
    views = RecordViews(known)
    view = views.view(TOPIC, StoredRecord(0, 0, 0, event.SerializeToString()))
    assert view.label_set is not None
    discloser = Discloser(known, FixedKeys())
    treated = discloser.treat(_PSEUDONYMS, view.label_set, _READER)
    async with turns_of_others() as turns:
        delivery = await discloser.encode(views, view, treated, _READER)
    assert delivery == discloser.encode_once(view, treated, _READER)
    return delivery.entry, turns.count


async def test_others_have_their_turn_while_a_large_document_is_redacted() -> None:
    delivery, turns = await encoded(20_000)
    assert turns > 10
    (found,) = Batch.FromString(delivery).deliveries
    assert found.record.text_data.count("~") == 20_000


async def test_a_small_document_is_redacted_at_once() -> None:
    _, turns = await encoded(10)
    assert turns == 0
