"""An agreement that has ended, or has not begun, opens nothing: not the topic, not a record, not in a dry run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from broker.app.initialise import DEFAULT_RULEBOOK
from protos.entente.v1 import catalog_pb2, exchange_pb2
from tests.integration.exchange.live import Live
from tests.integration.exchange.records import CRASH_FILE, CRASH_TYPE, event

pytestmark = [pytest.mark.opa, pytest.mark.asyncio(loop_scope="session")]

_ENDED = {"from": "2020-01-01T00:00:00Z", "until": "2020-02-01T00:00:00Z"}
_COMING = {"from": "2999-01-01T00:00:00Z", "history": False}


def RULEBOOK(directory: Path) -> Path:
    """The agreement with ems has ended, and the one with transport begins some day."""
    shutil.copytree(DEFAULT_RULEBOOK, directory)
    file = directory / "data/agreements/highway-patrol/data.yaml"
    agreements = yaml.safe_load(file.read_text())
    agreements["ems-crash-reports"] |= _ENDED
    agreements["transport-crash-statistics"] |= _COMING
    file.write_text(yaml.safe_dump(agreements))
    return directory


async def test_the_topic_is_hidden_again(live: Live) -> None:
    caller = live.caller("ems")
    async with caller.stream("crash-reports") as stream:
        assert (await stream.failure()).reason == "TOPIC_NOT_FOUND"
    topics = await caller.catalog.ListTopics(catalog_pb2.ListTopicsRequest(), metadata=caller.metadata)
    assert list(topics.topics) == []


async def test_a_dry_run_says_that_nothing_would_be_received(live: Live) -> None:
    owner = live.caller("highway-patrol")
    record = event(CRASH_TYPE, "//highway-patrol/x", CRASH_FILE.read_text(), dataclassification="amber")
    request = exchange_pb2.PreviewPublishRequest(topic="crash-reports", records=[record])
    (shown,) = (await owner.exchange.PreviewPublish(request, metadata=owner.metadata)).previews
    effects = {party.agency: exchange_pb2.Effect.Name(party.effect) for party in shown.parties}
    assert effects == {
        "cyber-centre": "EFFECT_NOTICE",
        "ems": "EFFECT_WITHHOLD",
        "transport": "EFFECT_WITHHOLD",
    }
