"""A topic that several agencies publish on does not tell a reader about those that it has no agreement with (rule 6)."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from broker.app.initialise import DEFAULT_RULEBOOK
from protos.entente.v1 import catalog_pb2
from tests.integration.exchange.live import Live
from tests.integration.exchange.records import CRASH_TYPE, event

pytestmark = [pytest.mark.opa, pytest.mark.asyncio(loop_scope="session")]

_HIDDEN = "test.undercover.v1"
_SHOWN = "test.witness.v1"


def RULEBOOK(directory: Path) -> Path:
    """On crash-reports, cyber-centre publishes a type that no agreement tells ems about, and transport one that does."""
    shutil.copytree(DEFAULT_RULEBOOK, directory)
    data = directory / "data"
    for agency, name in (("cyber-centre", _HIDDEN), ("transport", _SHOWN)):
        _add(data / f"record_types/{agency}/data.yaml", name, _type(agency))
    agreements = yaml.safe_load((data / "agreements/highway-patrol/data.yaml").read_text())
    _add(data / "agreements/transport/data.yaml", "witnesses-ems", agreements["ems-crash-reports"])
    topics = data / "topics/data.yaml"
    changed = yaml.safe_load(topics.read_text())
    changed["crash-reports"]["accepts"] += [_HIDDEN, _SHOWN]
    topics.write_text(yaml.safe_dump(changed))
    return directory


def _type(agency: str) -> dict[str, object]:
    return {
        "description": "A test",
        "content_type": "application/json",
        "publishers": [agency],
        "fields": {"$.text": ["operational"]},
        "attributes": {},
    }


def _add(path: Path, name: str, value: object) -> None:
    known = yaml.safe_load(path.read_text()) if path.exists() else {}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump({**known, name: value}))


async def _types(live: Live, name: str) -> tuple[set[str], set[str]]:
    caller = live.caller(name)
    topics = await caller.catalog.ListTopics(catalog_pb2.ListTopicsRequest(), metadata=caller.metadata)
    types = await caller.catalog.ListRecordTypes(
        catalog_pb2.ListRecordTypesRequest(), metadata=caller.metadata
    )
    (topic,) = (t for t in topics.topics if t.name == "crash-reports")
    return set(topic.record_types), {t.name for t in types.record_types}


async def test_the_catalogue_names_no_type_of_a_hidden_owner(live: Live) -> None:
    on_topic, listed = await _types(live, "ems")
    assert on_topic == {CRASH_TYPE, _SHOWN}
    assert listed == {CRASH_TYPE, _SHOWN}


async def test_the_steward_sees_all_that_its_topic_accepts(live: Live) -> None:
    on_topic, _ = await _types(live, "highway-patrol")
    assert on_topic == {CRASH_TYPE, _SHOWN, _HIDDEN}


async def test_publishing_does_not_tell_a_hidden_type_from_a_missing_one(live: Live) -> None:
    caller = live.caller("ems")
    records = [event(name, "//ems/x", {"text": "x"}) for name in (_HIDDEN, "test.undercover.v0")]
    hidden, missing = await caller.publish("crash-reports", *records)
    assert hidden.refused.reason == missing.refused.reason == "RECORD_TYPE_NOT_FOUND"
    assert hidden.refused.message == missing.refused.message.replace("v0", "v1")
