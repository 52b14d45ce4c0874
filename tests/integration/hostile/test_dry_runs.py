"""Dry runs are bounded: the size of the records times that of the audience (design rule 8)."""

from __future__ import annotations

import grpc
import pytest

from broker.core import preview
from protos.entente.v1 import exchange_pb2
from tests.integration.exchange.failure import failure_of
from tests.integration.exchange.live import Live
from tests.integration.exchange.records import CRASH_FILE, crash

pytestmark = [pytest.mark.opa, pytest.mark.asyncio(loop_scope="session")]


async def _preview(live: Live, count: int) -> exchange_pb2.PreviewPublishResponse:
    caller = live.caller("highway-patrol")
    records = [crash(CRASH_FILE.read_text()) for _ in range(count)]
    request = exchange_pb2.PreviewPublishRequest(topic="crash-reports", records=records)
    response = await caller.exchange.PreviewPublish(request, metadata=caller.metadata, timeout=20)
    assert isinstance(response, exchange_pb2.PreviewPublishResponse)
    return response


async def test_a_dry_run_of_too_much_for_too_many_is_refused(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = crash(CRASH_FILE.read_text()).ByteSize()
    monkeypatch.setattr(preview, "PREVIEW_BYTES", 7 * one + 700)  # three agencies with seven roles in sum
    assert len((await _preview(live, 1)).previews) == 1
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await _preview(live, 2)
    assert failure_of(refused.value).reason == "LIMIT_EXCEEDED"


async def test_a_large_document_is_shown_as_each_party_would_receive_it(live: Live) -> None:
    """Large ones are examined and redacted in threads; nothing else about them differs."""
    caller = live.caller("highway-patrol")
    text = CRASH_FILE.read_text().rstrip()
    assert text.endswith("}")
    large = text[:-1] + ', "unnamed": "' + "SECRET" * 10_000 + '"}'
    request = exchange_pb2.PreviewPublishRequest(topic="crash-reports", records=[crash(large)])
    (shown,) = (await caller.exchange.PreviewPublish(request, metadata=caller.metadata, timeout=20)).previews
    assert list(shown.unreviewed_paths) == ["$.unnamed"]
    assert {party.agency for party in shown.parties} == {"ems", "transport", "cyber-centre"}
    assert not any("SECRET" in party.record.text_data for party in shown.parties)
    assert sum(bool(party.record.text_data) for party in shown.parties) == 3
