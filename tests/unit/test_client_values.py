"""The client's parts that need no exchange: batches, tokens, pauses, what a stream is opened with."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from connectors.channel import open_channel
from connectors.delivery import StreamOptions, open_message
from connectors.publishing import cut
from connectors.retry import Retry
from connectors.session import silence_s
from connectors.tokens import TokenSource, due_time
from protos.entente.v1 import exchange_pb2
from tests.unit.test_client_calls import jwt_until, record


def test_batches_are_cut_by_bytes_and_a_large_record_goes_alone() -> None:
    records = [record(1), record(2, "y" * 1_000), record(3), record(4)]
    small = records[2].ByteSize()
    assert [[each.id for each in batch] for batch in cut(records, max_bytes=2 * small)] == [
        ["1"],
        ["2"],
        ["3", "4"],
    ]
    assert list(cut([])) == []


def test_exactly_one_token_source_is_needed() -> None:
    for choices in ({}, {"token": "a", "token_file": Path("b")}):
        with pytest.raises(ValueError, match="exactly one"):
            TokenSource(**choices)  # type: ignore[arg-type]


@pytest.mark.parametrize("token", ["opaque", "a.b.c", "e30.W10.c2ln", "e30.eyJleHAiOnRydWV9.c2ln"])
def test_a_token_without_expiry_is_never_due(token: str) -> None:
    assert due_time(token) is None


def test_a_token_is_due_a_minute_before_its_end_at_most() -> None:
    now = time.time()
    assert due_time(jwt_until(now + 3_600)) == pytest.approx(now + 3_540, abs=2)
    assert due_time(jwt_until(now + 40)) == pytest.approx(now + 30, abs=2)


def test_plaintext_and_tls_files_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="excludes"):
        open_channel("localhost:1", ca_file=tmp_path / "ca.pem", insecure_plaintext=True)


def test_pauses_grow_to_their_bound_with_jitter() -> None:
    pauses = list(Retry(attempts=6, first_s=1.0, longest_s=4.0).pauses_s())
    for pause, bound in zip(pauses, [1.0, 2.0, 4.0, 4.0, 4.0], strict=True):
        assert bound / 2 <= pause <= bound


def test_what_is_opened_says_where_to_begin() -> None:
    credit = exchange_pb2.Credit(records=1)
    when = datetime(2026, 1, 1, tzinfo=UTC)
    assert open_message(StreamOptions("t", "p", start=when), b"", credit).time.ToDatetime(UTC) == when
    assert open_message(StreamOptions("t", "p", start=b"c"), b"", credit).cursor == b"c"
    assert open_message(StreamOptions("t", "p", start=b"c"), b"d", credit).cursor == b"d"
    expired = open_message(StreamOptions("t", "p", on_expired="earliest"), b"", credit).on_expired
    assert expired == exchange_pb2.ON_EXPIRED_EARLIEST
    # A named one goes on from what the exchange holds, not from a cursor of a connection that is gone.
    assert (
        open_message(StreamOptions("t", "p", subscription="s"), b"d", credit).WhichOneof("from") == "position"
    )


def test_two_heartbeats_may_be_missed_and_frequent_ones_for_longer() -> None:
    assert [silence_s(each) for each in (20_000, 10, 0)] == [40.0, 20.0, None]
