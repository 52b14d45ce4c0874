"""Dead letters keep a record as it was, whatever a producer has written into it."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from connectors.kafka.dead_letters import PREFIX, decode_letter, encode_letter
from connectors.mapping.record import AgencyRecord, stable_id
from connectors.runtime.refusals import Letter

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
ORIGIN = {"cluster": "c-1", "topic": "crashes", "partition": "3", "offset": "42"}
BYTES = st.none() | st.binary(max_size=8)
NAMES = st.text(max_size=6) | st.sampled_from([PREFIX + "cause", PREFIX + "attempt", PREFIX + "connector"])
RECORDS = st.builds(
    AgencyRecord,
    BYTES,
    BYTES,
    st.lists(st.tuples(NAMES, BYTES), max_size=4).map(tuple),
    st.none() | st.integers(0, 2**40),
    st.just(ORIGIN),
    st.sampled_from(["", "topic-id"]),
)


@given(RECORDS, st.text(max_size=20), st.integers(1, 10**9 - 1))
def test_what_is_kept_is_read_back_as_it_was_with_the_same_id(
    record: AgencyRecord, cause: str, attempt: int
) -> None:
    message = encode_letter(Letter(record, cause, attempt, ORIGIN), "crashes", NOW)
    # What kafka-python sends, and gives when it reads.
    assert message.key is not None or message.value is not None
    assert all(isinstance(value, bytes) for _, value in message.headers)
    read = decode_letter(AgencyRecord(message.key, message.value, message.headers, message.timestamp_ms))
    assert read is not None
    assert read.connector == "crashes"
    assert read.letter == Letter(record, cause, attempt, ORIGIN)
    assert stable_id(read.letter.record) == stable_id(record)


def test_key_value_and_headers_stay_and_the_rest_is_told_behind_them() -> None:
    record = AgencyRecord(b"k", b'{"a": 1}', (("h", b"1"),), 7, ORIGIN, "topic-id")
    message = encode_letter(Letter(record, "ID_REUSED: why", 2, ORIGIN), "crashes", NOW)
    assert (message.key, message.value, message.timestamp_ms) == (b"k", b'{"a": 1}', 7)
    assert message.headers == (
        ("h", b"1"),
        ("entente.dead-letter.cause", b"ID_REUSED: why"),
        ("entente.dead-letter.attempt", b"2"),
        ("entente.dead-letter.connector", b"crashes"),
        ("entente.dead-letter.time", b"2026-01-31T12:00:00.000+00:00"),
        ("entente.dead-letter.incarnation", b"topic-id"),
        ("entente.dead-letter.null", b""),
        ("entente.dead-letter.cluster", b"c-1"),
        ("entente.dead-letter.topic", b"crashes"),
        ("entente.dead-letter.partition", b"3"),
        ("entente.dead-letter.offset", b"42"),
    )


@given(RECORDS)
def test_what_is_no_letter_is_read_as_none_or_never_as_somebody_elses_failure(record: AgencyRecord) -> None:
    read = decode_letter(record)
    assert read is None or read.letter.attempt >= 0


def test_a_record_without_letter_and_one_with_a_broken_letter_are_none() -> None:
    assert decode_letter(AgencyRecord(b"k", b"v", (("h", b"1"),))) is None
    assert decode_letter(AgencyRecord(b"k", b"v", ((PREFIX + "cause", b"x"),))) is None
    broken = ((PREFIX + "cause", b"x"), (PREFIX + "attempt", b"\xb2"), (PREFIX + "connector", b"c"))
    assert decode_letter(AgencyRecord(b"k", b"v", broken)) is None
