"""The table of the sample exchange: every principal on every topic, by effect and by field."""

from __future__ import annotations

from typing import Any

import grpc
import orjson
import pytest
import pytest_asyncio

from protos.entente.v1 import catalog_pb2, exchange_pb2
from tests.integration.exchange.live import PEOPLE, Live
from tests.integration.exchange.records import CRASH_FILE, crash, indicator, vulnerability

pytestmark = [pytest.mark.opa, pytest.mark.asyncio(loop_scope="session")]

INFO = "exch:CrashDriverInfo"
LICENCE = (INFO, "j:Crash", "j:CrashVehicle", "j:CrashDriver", "j:DriverLicense")
NUMBER = (*LICENCE, "j:DriverLicenseCardIdentification", "nc:IdentificationID")
NAMES = ("Wimsey", "Bredon", "Peter", "1890-05-04")
VISIBLE = {"dataclassification", "datacontenttype"}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stored(live: Live) -> None:
    """One crash; vulnerabilities and indicators of rising classification, the red ones for the highway patrol by name."""
    await live.caller("highway-patrol").publish_all("crash-reports", crash(CRASH_FILE.read_text()))
    cyber = live.caller("cyber-centre")
    levels = ("clear", "green", "amber", "red")
    await cyber.publish_all(
        "vulnerabilities", *(vulnerability(f"CVE-{level}", level, **_labels(level)) for level in levels)
    )
    await cyber.publish_all("threat-intelligence", *(indicator(level, level) for level in levels))


def _labels(level: str) -> dict[str, str]:
    named = {"releasableto": "highway-patrol"} if level == "red" else {}
    return {"partitionkey": "k", **named}


@pytest.fixture(autouse=True)
def _stored(stored: None) -> None:
    """Every test here reads what `stored` published."""


async def received(live: Live, name: str, topic: str, count: int) -> list[exchange_pb2.Delivery]:
    """Exactly so many deliveries: a heartbeat that follows them shows that no more come."""
    async with live.caller(name).stream(topic) as stream:
        found = await stream.deliveries(count)
        later = await stream.beats(2)
        assert [m.WhichOneof("message") for m in later] == ["heartbeat"] * 2
        return found


async def the_crash(live: Live, name: str) -> tuple[exchange_pb2.Delivery, dict[str, Any]]:
    """The crash as this principal receives it, and its document."""
    (delivery,) = await received(live, name, "crash-reports", 1)
    return delivery, orjson.loads(delivery.record.text_data)


def at(document: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        document = document[name]
    return document


async def test_the_owner_receives_the_crash_whole(live: Live) -> None:
    delivery, _ = await the_crash(live, "highway-patrol")
    assert delivery.record.text_data == CRASH_FILE.read_text()
    assert delivery.record.attributes["authid"].ce_string == "highway-patrol/officer-1"
    assert delivery.record.attributes["recordedtime"].WhichOneof("attr") == "ce_timestamp"
    assert delivery.disclosure == exchange_pb2.Disclosure(effect=exchange_pb2.EFFECT_RELEASE)


async def test_ems_receives_the_crash_without_charges(live: Live) -> None:
    delivery, document = await the_crash(live, "ems")
    text = delivery.record.text_data
    assert all(name in text for name in NAMES)
    assert "j:CrashPersonInjury" in text
    assert at(document, NUMBER) == at(orjson.loads(CRASH_FILE.read_bytes()), NUMBER)
    assert "j:Charge" not in text
    assert "Felony" not in text
    assert set(delivery.record.attributes) == VISIBLE
    assert delivery.disclosure == exchange_pb2.Disclosure(
        effect=exchange_pb2.EFFECT_RELEASE, obligations=["delete-after-90-days"]
    )


async def test_transport_receives_the_crash_without_people(live: Live) -> None:
    delivery, document = await the_crash(live, "transport")
    text = delivery.record.text_data
    assert not any(name in text for name in NAMES)
    assert "j:CrashPersonInjury" not in text
    assert "PrivacyCode" not in text
    original = at(orjson.loads(CRASH_FILE.read_bytes()), NUMBER)
    assert original not in text
    assert at(document, NUMBER).startswith("~")
    charge = at(document, (INFO, "j:Charge", "j:ChargeDescriptionText"))
    assert charge != at(orjson.loads(CRASH_FILE.read_bytes()), (INFO, "j:Charge", "j:ChargeDescriptionText"))
    assert at(document, (INFO, "j:Crash", "nc:ActivityDate", "nc:Date")) == "1900-05-04"
    assert set(delivery.record.attributes) == VISIBLE
    assert list(delivery.disclosure.masked) == ["criminal", "identifier"]
    assert list(delivery.disclosure.obligations) == ["no-reidentification"]


async def test_the_cyber_centre_is_told_that_a_crash_exists(live: Live) -> None:
    (delivery,) = await received(live, "cyber-centre", "crash-reports", 1)
    assert delivery.WhichOneof("content") == "notice"
    assert delivery.disclosure == exchange_pb2.Disclosure(effect=exchange_pb2.EFFECT_NOTICE)
    notice = delivery.notice
    assert (notice.type, notice.owner) == ("gov.niem.crash-driver.v1", "highway-patrol")
    assert notice.contact == "records@highway-patrol.example"
    assert len(notice.id) == 32
    assert not any(name in str(delivery) for name in NAMES)


async def test_the_highway_patrol_receives_all_vulnerabilities(live: Live) -> None:
    found = await received(live, "highway-patrol", "vulnerabilities", 4)
    assert [d.record.attributes["subject"].ce_string for d in found] == [
        "CVE-clear",
        "CVE-green",
        "CVE-amber",
        "CVE-red",
    ]
    assert all(set(d.record.attributes) == VISIBLE | {"subject"} for d in found)


@pytest.mark.parametrize("topic", ["vulnerabilities", "threat-intelligence"])
async def test_the_cyber_centre_receives_its_own_whole(live: Live, topic: str) -> None:
    found = await received(live, "cyber-centre", topic, 4)
    assert all("authid" in d.record.attributes for d in found)


@pytest.mark.parametrize("topic", ["vulnerabilities", "threat-intelligence"])
async def test_the_partner_receives_clear_and_green_only(live: Live, topic: str) -> None:
    found = await received(live, "partner-cert", topic, 2)
    assert [d.record.attributes["dataclassification"].ce_string for d in found] == ["clear", "green"]
    assert all("authid" not in d.record.attributes for d in found)


_ADMINISTRATORS = {
    "highway-patrol": "highway-patrol-admin",
    "ems": "ems-admin",
    "transport": "transport-admin",
}
_OF_READERS = [
    ("highway-patrol", "threat-intelligence"),
    ("ems", "vulnerabilities"),
    ("ems", "threat-intelligence"),
    ("transport", "vulnerabilities"),
    ("transport", "threat-intelligence"),
    ("partner-cert", "crash-reports"),
]
HIDDEN = [
    *_OF_READERS,
    # Who administers an agency sees the topics that its people see; who audits the exchange subscribes to none.
    *((_ADMINISTRATORS[name], topic) for name, topic in _OF_READERS if name in _ADMINISTRATORS),
    *(("auditor-1", topic) for topic in ("crash-reports", "vulnerabilities", "threat-intelligence")),
]


@pytest.mark.parametrize(("name", "topic"), HIDDEN)
async def test_as_if_there_were_none(live: Live, name: str, topic: str) -> None:
    async with live.caller(name).stream(topic) as stream:
        failure = await stream.failure()
    assert (failure.code, failure.reason) == (grpc.StatusCode.NOT_FOUND, "TOPIC_NOT_FOUND")
    assert stream.seen == []


@pytest.mark.parametrize("name", PEOPLE)
async def test_the_catalogue_lists_what_the_table_says(live: Live, name: str) -> None:
    caller = live.caller(name)
    listed = await caller.catalog.ListTopics(catalog_pb2.ListTopicsRequest(), metadata=caller.metadata)
    hidden = {topic for person, topic in HIDDEN if person == name}
    assert [t.name for t in listed.topics] == sorted(
        {"crash-reports", "vulnerabilities", "threat-intelligence"} - hidden
    )
    types = await caller.catalog.ListRecordTypes(
        catalog_pb2.ListRecordTypesRequest(), metadata=caller.metadata
    )
    assert {t.name for t in types.record_types} == {n for t in listed.topics for n in t.record_types}
