"""The sample data and the default rulebook agree: every field of every sample record is named in its type's field map."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from broker.core.redact.accept import check_document
from broker.core.redact.fieldmap import FieldMap
from broker.core.redact.unreviewed import unreviewed_paths

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "broker" / "demo" / "data"
TYPES = ROOT / "policy" / "data" / "record_types"


def field_map(owner: str, name: str) -> FieldMap:
    """The default rulebook's field map of a record type."""
    types = yaml.safe_load((TYPES / owner / "data.yaml").read_text())
    return FieldMap.compile(types[name]["fields"])


def stix_objects() -> list[object]:
    root = json.loads((DATA / "stix-taxii-collection.json").read_text())["trustgroup1"]
    return [each for collection in root["collections"] for each in collection["objects"]]


def crashes() -> list[object]:
    return [json.loads((DATA / "niem-crash-driver.json").read_text())]


def vulnerabilities() -> list[object]:
    return list(json.loads((DATA / "cisa-kev.json").read_text())["vulnerabilities"])


@pytest.mark.parametrize(
    ("owner", "name", "documents", "count"),
    [
        ("highway-patrol", "gov.niem.crash-driver.v1", crashes, 1),
        ("cyber-centre", "gov.cisa.kev.v1", vulnerabilities, 1_404),
        ("cyber-centre", "org.oasis.stix.v2.1", stix_objects, 8),
    ],
    ids=["crash", "vulnerabilities", "stix"],
)
def test_no_field_of_a_sample_is_unreviewed(owner: str, name: str, documents: object, count: int) -> None:
    compiled = field_map(owner, name)
    found = documents()  # type: ignore[operator]
    assert len(found) == count
    for document in found:
        checked = check_document(json.dumps(document).encode())
        assert unreviewed_paths(checked, compiled) == ()


def test_the_known_ransomware_share_is_the_one_that_the_demo_promises() -> None:
    known = [v for v in vulnerabilities() if v["knownRansomwareCampaignUse"] == "Known"]  # type: ignore[index]
    assert len(known) == 293
