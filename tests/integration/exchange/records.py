"""Records to publish."""

from __future__ import annotations

import itertools
import secrets
from pathlib import Path
from typing import Any

import orjson

from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent

CRASH_TYPE = "gov.niem.crash-driver.v1"
KEV_TYPE = "gov.cisa.kev.v1"
STIX_TYPE = "org.oasis.stix.v2.1"
CRASH_FILE = Path(__file__).resolve().parents[2] / "data" / "niem-crash-driver.json"
CRASH_PURPOSES = "law-enforcement,emergency-response,road-safety-statistics"

_numbers = itertools.count(1)


def unique(prefix: str = "r") -> str:
    """An id that no other record has."""
    return f"{prefix}-{next(_numbers)}-{secrets.token_hex(3)}"


def event(type: str, source: str, data: Any, *, id: str = "", **attributes: str) -> CloudEvent:
    """A record with JSON data, green unless told."""
    text = data if isinstance(data, str) else orjson.dumps(data).decode()
    made = CloudEvent(id=id or unique(), source=source, spec_version="1.0", type=type, text_data=text)
    for name, value in {
        "datacontenttype": "application/json",
        "dataclassification": "green",
        **attributes,
    }.items():
        made.attributes[name].ce_string = value
    return made


def crash(text: str, **attributes: str) -> CloudEvent:
    """The crash report for the purposes of its three readers."""
    labels = {"dataclassification": "amber", "purposes": CRASH_PURPOSES}
    return event(CRASH_TYPE, "//highway-patrol/rms", text, **{**labels, **attributes})


def vulnerability(cve: str, classification: str = "green", **attributes: str) -> CloudEvent:
    """A catalogue entry."""
    data = {"cveID": cve, "vendorProject": "Vendor", "product": "Product", "notes": f"notes on {cve}"}
    attributes = {"dataclassification": classification, "subject": cve, **attributes}
    return event(KEV_TYPE, "//cyber-centre/kev", data, **attributes)


def indicator(name: str, classification: str = "green", **attributes: str) -> CloudEvent:
    """A STIX indicator."""
    data = {
        "type": "indicator",
        "spec_version": "2.1",
        "id": f"indicator--{name}",
        "pattern": f"[x:y = '{name}']",
    }
    attributes = {"dataclassification": classification, "subject": f"indicator--{name}", **attributes}
    return event(STIX_TYPE, "//cyber-centre/taxii", data, **attributes)
