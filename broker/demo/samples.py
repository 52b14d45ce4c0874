"""The sample data as records, labelled as their agencies would."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from connectors.cloudevents import new_record
from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent

DATA = Path(__file__).parent / "data"
CRASH_REPORTS, VULNERABILITIES, THREATS = "crash-reports", "vulnerabilities", "threat-intelligence"
TOPICS = (CRASH_REPORTS, VULNERABILITIES, THREATS)
_COLLECTION = "High Value Indicator Collection"


@dataclass(frozen=True, slots=True)
class Publication:
    """Records of one agency for one topic, in order."""

    topic: str
    agency: str
    records: tuple[CloudEvent, ...]


def publications() -> tuple[Publication, ...]:
    """All that the demo publishes."""
    return (
        Publication(CRASH_REPORTS, "highway-patrol", (_crash(),)),
        Publication(
            VULNERABILITIES, "cyber-centre", tuple(map(_vulnerability, _load("cisa-kev")["vulnerabilities"]))
        ),
        Publication(THREATS, "cyber-centre", tuple(map(_stix_object, _stix_objects()))),
    )


def _crash() -> CloudEvent:
    # The bytes of the file: what the exchange stores and the owner receives is what the agency wrote.
    return new_record(
        type="gov.niem.crash-driver.v1",
        source="//highway-patrol/records",
        id="crash-1",
        data=(DATA / "niem-crash-driver.json").read_bytes(),
        labels={
            "dataclassification": "amber",
            "purposes": ["emergency-response", "law-enforcement", "road-safety-statistics"],
        },
    )


def _vulnerability(entry: Mapping[str, object]) -> CloudEvent:
    known = entry["knownRansomwareCampaignUse"] == "Known"
    return new_record(
        type="gov.cisa.kev.v1",
        source="//cyber-centre/kev",
        id=str(entry["cveID"]),
        subject=str(entry["cveID"]),
        data=orjson.dumps(entry),
        labels={"dataclassification": "amber" if known else "clear"},
    )


def _stix_object(entry: Mapping[str, object]) -> CloudEvent:
    # STIX 2.1 section 3.6: `modified` is the version of an object; a marking definition has only `created`.
    version = entry.get("modified", entry["created"])
    return new_record(
        type="org.oasis.stix.v2.1",
        source="//cyber-centre/taxii/trustgroup1",
        id=f"{entry['id']}/{version}",
        subject=str(entry["id"]),
        data=orjson.dumps(entry),
        labels={"dataclassification": "green"},
    )


def _stix_objects() -> list[dict[str, object]]:
    collections = _load("stix-taxii-collection")["trustgroup1"]["collections"]
    objects: list[dict[str, object]] = next(
        each["objects"] for each in collections if each["title"] == _COLLECTION
    )
    return objects


def _load(name: str) -> Any:
    return orjson.loads((DATA / f"{name}.json").read_bytes())
