"""Records at the door: nothing that was found good earlier lets another record in, and what is stored is what was sent."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.core.record.admission import Admission, Candidate, RecordLimits, stamp
from broker.core.record.envelope import STAMPED
from broker.core.record.fingerprint import content_digest, content_of, fingerprint
from broker.errors import EntenteError, Reason
from broker.model.principal import Principal
from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent
from tests.fakes.delivery import TOPIC, TYPE, registry

NOW_MS = 1_800_000_000_123
CALLER = Principal("alpha", "p-1", (), (), {}, "token", datetime(2030, 1, 1, tzinfo=UTC))


@pytest.fixture
def admission() -> Admission:
    return Admission(registry(), RecordLimits())


def examine(admission: Admission, sent: CloudEvent, caller: Principal = CALLER) -> Candidate:
    return admission.examine(sent, content_of(sent), caller, registry().topics[TOPIC])


def refusal(admission: Admission, sent: CloudEvent) -> Reason:
    with pytest.raises(EntenteError) as caught:
        examine(admission, sent)
    return caught.value.reason


def event(**attributes: str) -> CloudEvent:
    made = CloudEvent(id="1", source="//alpha/x", spec_version="1.0", type=TYPE, text_data="{}")
    for name, value in {"dataclassification": "green", **attributes}.items():
        made.attributes[name].ce_string = value
    return made


def test_records_that_are_decided_alike_share_one_kind(admission: Admission) -> None:
    kinds = [
        examine(admission, event(**more)).kind for more in ({}, {"subject": "s"}, {"datacategory": "odd"})
    ]
    assert kinds[0] is kinds[1]
    assert [kind.labels.datacategory for kind in kinds] == ["", "", "odd"]


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("datacategory", "", Reason.LABEL_INVALID),
        ("purposes", "", Reason.LABEL_INVALID),
        ("purposes", "unknown", Reason.LABEL_INVALID),
        ("dataclassification", "", Reason.LABEL_INVALID),
        ("dataclassification", "blue", Reason.LABEL_INVALID),
        ("datacontenttype", "text/plain", Reason.CONTENT_INVALID),
        ("releasableto", "beta,,gamma", Reason.LABEL_INVALID),
    ],
)
def test_a_good_record_before_lets_no_bad_one_in(
    admission: Admission, name: str, value: str, reason: Reason
) -> None:
    examine(admission, event())
    for _ in range(2):
        assert refusal(admission, event(**{name: value})) is reason
    examine(admission, event())


def test_a_label_of_no_text_is_no_missing_label(admission: Admission) -> None:
    examine(admission, event())
    sent = event()
    sent.attributes["datacategory"].ce_boolean = False
    assert refusal(admission, sent) is Reason.LABEL_INVALID


def test_a_kind_is_known_for_those_only_who_may_publish_it(admission: Admission) -> None:
    examine(admission, event())
    stranger = Principal("delta", "p-1", (), (), {}, "token", datetime(2030, 1, 1, tzinfo=UTC))
    for source, reason in (("//alpha/x", Reason.SOURCE_FORGED), ("//delta/x", Reason.RECORD_TYPE_NOT_FOUND)):
        sent = event()
        sent.source = source
        with pytest.raises(EntenteError) as caught:
            examine(admission, sent, stranger)
        assert caught.value.reason is reason


def test_label_sets_that_nobody_repeats_do_not_pile_up(
    admission: Admission, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.core.record.admission._KINDS", 3)
    for number in range(10):
        examine(admission, event(releasableto=f"agency-{number}"))
        assert len(admission._kinds) <= 3
    examine(admission, event(releasableto=",".join(f"agency-{number}" for number in range(200))))
    assert all("agency-199" not in kind.labels.releasableto for kind in admission._kinds.values())


def test_the_size_of_an_attribute_is_bounded_and_not_that_of_all_together(admission: Admission) -> None:
    examine(admission, event(one="x" * 3_000, two="x" * 3_000))
    assert refusal(admission, event(one="x" * 5_000)) is Reason.RECORD_INVALID
    unset = event()
    unset.attributes["one"].SetInParent()
    assert refusal(admission, unset) is Reason.RECORD_INVALID


@pytest.mark.parametrize("name", ["Upper", "a-b", "x" * 21, "id", "data", *sorted(STAMPED)])
def test_names_that_no_attribute_may_have(admission: Admission, name: str) -> None:
    expected = Reason.ATTRIBUTE_RESERVED if name in STAMPED else Reason.RECORD_INVALID
    assert refusal(admission, event(**{name: "x"})) is expected


values = st.one_of(
    st.builds(CloudEvent.CloudEventAttributeValue, ce_string=st.text(min_size=1, max_size=20)),
    st.builds(CloudEvent.CloudEventAttributeValue, ce_integer=st.integers(-(1 << 31), (1 << 31) - 1)),
    st.builds(CloudEvent.CloudEventAttributeValue, ce_bytes=st.binary(min_size=1, max_size=20)),
)


@given(
    st.dictionaries(st.sampled_from(["aaa", "authie", "extra", "recorded", "zzz"]), values), st.integers(0)
)
@settings(max_examples=50)
def test_what_is_stored_is_what_was_sent_and_two_stamps(
    attributes: dict[str, CloudEvent.CloudEventAttributeValue], number: int
) -> None:
    sent = event()
    sent.id, sent.text_data = f"id-{number}", f"[{number % 1_000}]"
    for name, value in attributes.items():
        sent.attributes[name].CopyFrom(value)
    expected = CloudEvent()
    expected.CopyFrom(sent)
    record = stamp(examine(Admission(registry(), RecordLimits()), sent), CALLER, NOW_MS)
    assert sent == expected, "the stamps are taken off again"
    assert fingerprint(record.body) == (record.identity, record.digest)
    assert record.digest == content_digest(expected)
    expected.attributes["recordedtime"].ce_timestamp.FromMilliseconds(NOW_MS)
    expected.attributes["authid"].ce_string = "alpha/p-1"
    # Receivers compute the digest of what they were handed from this form.
    assert record.body == expected.SerializeToString(deterministic=True)


def test_unknown_fields_are_neither_stored_nor_part_of_the_digest(admission: Admission) -> None:
    hidden = b"\xfa\x07\x06SECRET"  # field 127, length 6
    sent = CloudEvent.FromString(event().SerializeToString() + hidden)
    sent.attributes["extra"].MergeFromString(b"\x1a\x01x" + hidden)
    assert b"SECRET" in sent.SerializeToString()
    record = stamp(examine(admission, sent), CALLER, NOW_MS)
    assert b"SECRET" not in record.body
    assert record.digest == content_digest(event(extra="x"))


@pytest.mark.parametrize("name", ["time", "expirytime", "datacategory", "extra"])
def test_an_attribute_that_holds_nothing_is_told_as_such(admission: Admission, name: str) -> None:
    sent = event()
    sent.attributes[name].SetInParent()
    with pytest.raises(EntenteError, match=f"{name} is empty"):
        examine(admission, sent)
