"""The sample crash report under the default rulebook's markings: what `ems` and `transport` receive, to the byte."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import orjson
import pytest
import yaml

from broker.core.redact.accept import check_document
from broker.core.redact.apply import redact
from broker.core.redact.fieldmap import FieldMap
from broker.core.redact.plan import compile_plan
from broker.core.redact.pseudonym import pseudonymiser
from broker.core.redact.unreviewed import unreviewed_paths
from broker.model.decision import KEEP, REMOVE, Treatment, TreatmentKind

DATA = Path(__file__).parents[1] / "data"
RECORD_TYPES = Path(__file__).parents[2] / "policy" / "data" / "record_types" / "highway-patrol" / "data.yaml"
STORED = (DATA / "niem-crash-driver.json").read_bytes()

EMS = dict.fromkeys(["operational", "pii", "medical", "identifier"], KEEP) | {"criminal": REMOVE}
TRANSPORT = {
    "operational": KEEP,
    "pii": REMOVE,
    "medical": REMOVE,
    "criminal": Treatment(TreatmentKind.MASK),
    "identifier": Treatment(TreatmentKind.PSEUDONYM),
}


@pytest.fixture(scope="module")
def fieldmap() -> FieldMap:
    """The crash type's field map, as the default rulebook has it."""
    types = yaml.safe_load(RECORD_TYPES.read_text(encoding="utf-8"))
    return FieldMap.compile(types["gov.niem.crash-driver.v1"]["fields"])


@pytest.mark.parametrize(
    ("receiver", "treatments", "masked"),
    [("ems", EMS, ()), ("transport", TRANSPORT, ("criminal", "identifier"))],
)
def test_what_each_receives(
    fieldmap: FieldMap, receiver: str, treatments: Mapping[str, Treatment], masked: tuple[str, ...]
) -> None:
    pseudonymise = pseudonymiser(bytes(range(32)), owner="highway-patrol", receiver=receiver, purpose="test")
    result = redact(STORED, compile_plan(fieldmap, treatments), pseudonymise)
    golden = (DATA / f"niem-crash-driver.{receiver}.json").read_bytes()
    assert orjson.dumps(orjson.loads(result.data), option=orjson.OPT_INDENT_2) + b"\n" == golden
    assert result.masked == masked
    assert result.unreviewed_removed == 0


def test_every_field_of_the_sample_is_named(fieldmap: FieldMap) -> None:
    assert unreviewed_paths(check_document(STORED), fieldmap) == ()


def test_a_field_that_the_source_adds_reaches_nobody_and_is_reported(fieldmap: FieldMap) -> None:
    document = orjson.loads(STORED)
    document["exch:CrashDriverInfo"]["nc:Person"]["nc:PersonName"]["nc:PersonMaidenName"] = "SECRET"
    document["exch:CrashDriverInfo"]["j:Charge"]["j:ChargeText"] = ["SECRET"]
    plan = compile_plan(fieldmap, EMS)
    pseudonymise = pseudonymiser(bytes(32), owner="highway-patrol", receiver="ems", purpose="test")
    result = redact(orjson.dumps(document), plan, pseudonymise)
    assert result.data == redact(STORED, plan, pseudonymise).data
    assert result.unreviewed_removed == 2
    assert unreviewed_paths(document, fieldmap) == (
        "$['exch:CrashDriverInfo']['j:Charge']['j:ChargeText']",
        "$['exch:CrashDriverInfo']['nc:Person']['nc:PersonName']['nc:PersonMaidenName']",
    )
