"""What goes out of a record is what protobuf would write of it: the attributes that are meant to, and no others."""

from __future__ import annotations

from dataclasses import replace

from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.core.deliver.disclose import Discloser
from broker.core.deliver.view import RecordViews
from broker.model.decision import KEEP, Decision, Effect, Treatment, TreatmentKind
from broker.model.principal import SubjectClass
from broker.model.record import StoredRecord
from broker.model.registry import Registry
from protos.entente.v1.exchange_pb2 import Batch
from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent
from tests.fakes.delivery import TOPIC, TYPE, FixedKeys, registry

_READER = SubjectClass("reader", ("r",), (), "work")
_DECISION = Decision(Effect.RELEASE, {"open": KEEP, "pii": Treatment(TreatmentKind.MASK)})
_Value = CloudEvent.CloudEventAttributeValue

values = st.one_of(
    st.builds(_Value, ce_string=st.text(max_size=200)),
    st.builds(_Value, ce_uri=st.text(max_size=10)),
    st.builds(_Value, ce_timestamp=st.builds(Timestamp, seconds=st.integers(0, 1 << 33))),
    st.builds(_Value, ce_integer=st.integers(0, 9)),
)
VISIBLE = ("time", "datacontenttype", "dataschema", "dataclassification")
HIDDEN = ("subject", "authid", "recordedtime", "partitionkey", "releasablet", "timed", "tim", "datas")
attributes = st.dictionaries(st.sampled_from([*VISIBLE, *HIDDEN, "opened", "timezone", "masked"]), values)


def marked() -> Registry:
    """Of its attributes `opened` and `timezone` are kept, `masked` is replaced, and `subject` removed."""
    known = registry()
    record_type = replace(
        known.record_types[TYPE],
        fields={"$.a": ("open",), "$.b": ("secret",)},
        attributes={"opened": ("open",), "timezone": ("open",), "masked": ("pii",), "subject": ("secret",)},
    )
    return replace(known, record_types={TYPE: record_type})


def expected(event: CloudEvent) -> CloudEvent:
    made = CloudEvent(id=event.id, source=event.source, spec_version="1.0", type=TYPE, text_data='{"a":1}')
    for name in VISIBLE:
        if name in event.attributes:
            made.attributes[name].CopyFrom(event.attributes[name])
    for name in ("opened", "timezone", "masked"):
        kind = event.attributes[name].WhichOneof("attr") if name in event.attributes else None
        if kind in ("ce_string", "ce_uri"):
            text = getattr(event.attributes[name], str(kind))
            made.attributes[name].ce_string = "*" * 8 if name == "masked" else text
    return made


@given(attributes, st.text(min_size=1, max_size=20))
@settings(max_examples=100)
def test_what_goes_out_is_what_protobuf_would_write(found: dict[str, _Value], name: str) -> None:
    event = CloudEvent(id=name, source="//alpha/x", spec_version="1.0", type=TYPE, attributes=found)
    event.attributes["dataclassification"].ce_string = "green"
    event.text_data = '{"a":1,"b":"SECRET"}'
    known = marked()
    view = RecordViews(known).view(TOPIC, StoredRecord(0, 0, 0, event.SerializeToString(deterministic=True)))
    assert view.label_set is not None
    discloser = Discloser(known, FixedKeys())
    encoded = discloser.encode_once(view, discloser.treat(_DECISION, view.label_set, _READER), _READER)
    (delivery,) = Batch.FromString(encoded.entry).deliveries
    wanted = expected(event)
    assert delivery.record == wanted
    assert wanted.SerializeToString(deterministic=True) in encoded.entry
    assert list(delivery.disclosure.masked) == (["pii"] if "masked" in wanted.attributes else [])
