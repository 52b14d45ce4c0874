"""Records that a hostile publisher would send: refused at the door, or redacted like any other (design rule 1)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from broker.core.deliver.disclose import Discloser
from broker.core.deliver.view import RecordViews
from broker.core.record.admission import Admission, RecordLimits, stamp
from broker.core.record.fingerprint import content_of
from broker.errors import EntenteError, Reason
from broker.model.decision import KEEP, Decision, Effect
from broker.model.principal import Principal, SubjectClass
from broker.model.record import StoredRecord
from broker.model.registry import Registry
from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent
from tests.fakes.delivery import TOPIC, TYPE, FixedKeys, registry

_NOW_MS = 1_800_000_000_000
_PUBLISHER = Principal("alpha", "p", (), (), {}, "token", datetime(2030, 1, 1, tzinfo=UTC))
_READER = SubjectClass("reader", ("r",), (), "work")
_OPEN_ONLY = Decision(Effect.RELEASE, {"open": KEEP})


def marked() -> Registry:
    known = registry()
    fields = {
        "$.open": ("open",),
        "$.name": ("pii",),
        "$.list[*].name": ("pii",),
        "$.list[*].open": ("open",),
    }
    return replace(known, record_types={TYPE: replace(known.record_types[TYPE], fields=fields)})


def event(data: bytes | str, **attributes: str) -> CloudEvent:
    made = CloudEvent(id="1", source="//alpha/x", spec_version="1.0", type=TYPE)
    if isinstance(data, bytes):
        made.binary_data = data
    else:
        made.text_data = data
    for name, value in {"dataclassification": "green", **attributes}.items():
        made.attributes[name].ce_string = value
    return made


def delivered(sent: CloudEvent) -> bytes:
    """The bytes that a reader receives who may have what is `open`; raises EntenteError if it is refused."""
    known = marked()
    candidate = Admission(known, RecordLimits()).examine(
        sent, content_of(sent), _PUBLISHER, known.topics[TOPIC]
    )
    record = stamp(candidate, _PUBLISHER, _NOW_MS)
    view = RecordViews(known).view(TOPIC, StoredRecord(0, 0, record.recorded_ms, record.body))
    assert view.label_set is not None
    discloser = Discloser(known, FixedKeys())
    return discloser.encode_once(view, discloser.treat(_OPEN_ONLY, view.label_set, _READER), _READER).entry


EVASIONS = {
    "an escaped name": '{"open":"shown","\\u006eame":"SECRET"}',
    "a name that looks alike": '{"open":"shown","n\u0430me":"SECRET"}',
    "a name in another case": '{"open":"shown","NAME":"SECRET"}',
    "a name with a zero": '{"open":"shown","open\\u0000":"SECRET"}',
    "a name that is not normalised": '{"open":"shown","o\u0301pen":"SECRET"}',
    "an empty name": '{"open":"shown","":"SECRET"}',
    "a name of a path": '{"open":"shown","$.open":"SECRET"}',
    "an array where an object is expected": '["SECRET"]',
    "a text where an object is expected": '"SECRET"',
    "an object where an array is expected": '{"open":"shown","list":{"open":"SECRET"}}',
    "an array in an array": '{"open":"shown","list":[[{"open":"SECRET"}]]}',
    "texts among objects": '{"open":"shown","list":["SECRET",{"open":"shown","name":"SECRET"}]}',
    "the secret as a name": '{"open":"shown","SECRET":1}',
    "binary data": b'{"open":"shown","name":"SECRET"}',
}


@pytest.mark.parametrize("data", EVASIONS.values(), ids=EVASIONS.keys())
def test_no_spelling_gets_round_the_markings(data: bytes | str) -> None:
    received = delivered(event(data))
    assert b"SECRET" not in received
    assert b"shown" in received or data[:1] in ("[", '"')


def test_a_charset_changes_nothing_about_what_is_redacted() -> None:
    sent = event('{"open":"shown","name":"SECRET"}', datacontenttype="Application/JSON; charset=utf-16")
    assert b"SECRET" not in delivered(sent)


def test_attributes_that_no_type_marks_reach_nobody() -> None:
    hidden = dict.fromkeys(("subject", "traceparent", "partitionkey", "extra"), "SECRET")
    received = delivered(event('{"open":"shown"}', **hidden))
    assert b"SECRET" not in received
    assert b"alpha/p" not in received


REFUSED = {
    "no data": b"",
    "a byte order mark": b'\xef\xbb\xbf{"open":1}',
    "UTF-16": '{"open":1}'.encode("utf-16"),
    "UTF-16 without a mark": '{"open":1}'.encode("utf-16-le"),
    "one name twice, once escaped": b'{"open":1,"\\u006fpen":2}',
    "one name twice, deep inside": b'{"list":[{"name":1,"n\\u0061me":2}]}',
    "half a surrogate": b'{"\\ud800":1}',
    "an overlong zero": b'{"a":"\xc0\x80"}',
    "a surrogate in UTF-8": b'{"a":"\xed\xa0\x80"}',
    "two documents": b"{} {}",
    "no number": b"NaN",
    "a number beyond all": b"1" * 400,
    "an exponent beyond all": b"1e" + b"9" * 10_000,
    "very deep arrays": b"[" * 100_000 + b"]" * 100_000,
    "very deep objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED.keys())
def test_what_two_readers_could_take_differently_is_refused(data: bytes) -> None:
    with pytest.raises(EntenteError) as caught:
        delivered(event(data))
    assert caught.value.reason is Reason.CONTENT_INVALID


@pytest.mark.parametrize(
    "label", ["dataclassification", "dataregulation", "datacategory", "purposes", "releasableto"]
)
@pytest.mark.parametrize("kind", ["ce_bytes", "ce_boolean", "ce_integer", "ce_timestamp"])
def test_a_label_of_another_type_is_refused(label: str, kind: str) -> None:
    sent = event("{}")
    value = sent.attributes[label]
    match kind:
        case "ce_bytes":
            value.ce_bytes = b"green"
        case "ce_boolean":
            value.ce_boolean = True
        case "ce_integer":
            value.ce_integer = 1
        case _:
            value.ce_timestamp.seconds = 1
    with pytest.raises(EntenteError) as caught:
        delivered(sent)
    assert caught.value.reason is Reason.LABEL_INVALID


@pytest.mark.parametrize(
    "value",
    [
        "",
        ",",
        "beta,",
        ",beta",
        "beta,beta",
        " beta",
        "beta ",
        "Beta",
        "b\u0435ta",
        "beta;gamma",
        "*",
        "//beta",
        "beta\n",
    ],
)
def test_no_spelling_of_releasableto_means_everybody(value: str) -> None:
    with pytest.raises(EntenteError) as caught:
        delivered(event("{}", releasableto=value))
    assert caught.value.reason is Reason.LABEL_INVALID


@pytest.mark.parametrize(("seconds", "nanos"), [(10**15, 0), (-(10**12), 0), (0, -5), (0, 2 * 10**9)])
@pytest.mark.parametrize("name", ["time", "expirytime"])
def test_an_instant_that_no_calendar_has_is_refused(name: str, seconds: int, nanos: int) -> None:
    sent = event("{}")
    sent.attributes[name].ce_timestamp.seconds = seconds
    sent.attributes[name].ce_timestamp.nanos = nanos
    with pytest.raises(EntenteError) as caught:
        delivered(sent)
    assert caught.value.reason is Reason.RECORD_INVALID
