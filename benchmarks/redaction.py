"""How many documents a second one core redacts and checks.

Run: `python -m benchmarks.redaction [--seconds 2]`. The document is the sample crash report (3 KB) under the
default rulebook's field map; the plans are those of its readers, with the ratio to parsing and writing alone.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import orjson
import yaml

from broker.core.redact.accept import check_document
from broker.core.redact.apply import redact
from broker.core.redact.fieldmap import FieldMap
from broker.core.redact.plan import Plan, compile_plan
from broker.core.redact.pseudonym import pseudonymiser
from broker.core.redact.unreviewed import unreviewed_paths
from broker.model.decision import KEEP, REMOVE, Treatment, TreatmentKind

ROOT = Path(__file__).parents[1]
TYPES = ROOT / "policy" / "data" / "record_types" / "highway-patrol" / "data.yaml"
DOCUMENT = ROOT / "tests" / "data" / "niem-crash-driver.json"

MARKINGS = ("operational", "pii", "medical", "identifier", "criminal")
TREATMENTS: dict[str, dict[str, Treatment]] = {
    "owner: keep all": dict.fromkeys((*MARKINGS, "unreviewed"), KEEP),
    "ems: criminal removed": dict.fromkeys(MARKINGS, KEEP) | {"criminal": REMOVE},
    "transport: removed, masked, pseudonym": {
        "operational": KEEP,
        "criminal": Treatment(TreatmentKind.MASK),
        "identifier": Treatment(TreatmentKind.PSEUDONYM),
    },
}


def per_second(call: Callable[[], object], seconds: float) -> float:
    """Calls a second, over at least the given time, after a short warm-up."""
    for _ in range(200):
        call()
    calls, start = 0, time.perf_counter()
    while (passed := time.perf_counter() - start) < seconds:
        for _ in range(200):
            call()
        calls += 200
    return calls / passed


def cases(data: bytes, fieldmap: FieldMap) -> dict[str, Callable[[], object]]:
    """What is measured, by name; the first is what the others are compared with."""
    pseudonymise = pseudonymiser(bytes(32), owner="highway-patrol", receiver="transport", purpose="benchmark")

    def redacting(plan: Plan) -> Callable[[], object]:
        return lambda: redact(data, plan, pseudonymise)

    document = orjson.loads(data)
    named = {name: redacting(compile_plan(fieldmap, given)) for name, given in TREATMENTS.items()}
    return {
        "parse and write (orjson)": lambda: orjson.dumps(orjson.loads(data)),
        **named,
        "publish: check the document": lambda: check_document(data),
        "publish: find unreviewed paths": lambda: unreviewed_paths(document, fieldmap),
        "compile the field map's plan": lambda: compile_plan(fieldmap, TREATMENTS["ems: criminal removed"]),
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each line")
    arguments = parser.parse_args()
    data = DOCUMENT.read_bytes()
    fieldmap = FieldMap.compile(
        yaml.safe_load(TYPES.read_text(encoding="utf-8"))["gov.niem.crash-driver.v1"]["fields"]
    )
    reference = 0.0
    print(f"{'':40}{'a second':>12}{'µs each':>10}{'ratio':>8}")
    for name, call in cases(data, fieldmap).items():
        rate = per_second(call, arguments.seconds)
        reference = reference or rate
        print(f"{name:40}{rate:12,.0f}{1e6 / rate:10.1f}{rate / reference:8.2f}")


if __name__ == "__main__":
    main()
