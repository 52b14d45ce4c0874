"""`entente demo` does what it shows: each number of the sample agreements' table, and nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ENTENTE = Path(sys.executable).with_name("entente")
CRASH, VULNERABILITIES, THREATS = "crash-reports", "vulnerabilities", "threat-intelligence"

# whole, redacted, notices; None: refused like a topic that does not exist.
TABLE: dict[str, dict[str, tuple[int, int, int] | None]] = {
    "highway-patrol": {CRASH: (1, 0, 0), VULNERABILITIES: (1404, 0, 0), THREATS: None},
    "ems": {CRASH: (0, 1, 0), VULNERABILITIES: None, THREATS: None},
    "transport": {CRASH: (0, 1, 0), VULNERABILITIES: None, THREATS: None},
    "cyber-centre": {CRASH: (0, 0, 1), VULNERABILITIES: (1404, 0, 0), THREATS: (8, 0, 0)},
    "partner-cert": {CRASH: None, VULNERABILITIES: (1111, 0, 0), THREATS: (8, 0, 0)},
}


def environment(temporary: Path) -> dict[str, str]:
    """This process's, without settings of its own, and with a directory for temporary files."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ENTENTE_")}
    return kept | {"TMPDIR": str(temporary)}


def processes_in(directory: Path) -> list[str]:
    """Command lines of processes that work on something in the directory."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(directory) in command:
            found.append(command)
    return found


def check(story: dict[str, Any]) -> None:
    """Compare every number with the table."""
    assert story["faults"] == []
    assert story["published"] == {CRASH: 1, VULNERABILITIES: 1404, THREATS: 8}
    for principal, topics in TABLE.items():
        for topic, promised in topics.items():
            met = story["received"][principal][topic]
            counts = (met["whole"], met["redacted"], met["notices"])
            assert (met["refused"], counts) == (
                (None, promised) if promised else ("TOPIC_NOT_FOUND", (0, 0, 0))
            )
    partner = story["received"]["partner-cert"]
    assert partner[VULNERABILITIES]["classifications"] == {"clear": 1404 - 293}
    assert partner[THREATS]["classifications"] == {"green": 8}
    assert story["received"]["cyber-centre"][VULNERABILITIES]["classifications"] == {
        "amber": 293,
        "clear": 1111,
    }
    _check_crash(story["crash_report"])
    _check_revocation(story["revocation"])
    # Six refused streams, five publications (three of vulnerabilities), nine streams that were served; then the consumer
    # whose agreement is revoked is served once, and refused once.
    kinds = story["ledger"]["by_kind"]
    assert (kinds["call_refused"], kinds["publish"], kinds["stream_opened"]) == (7, 5, 10)
    # Proposed, checked, approved, activated, after the first revision of all.
    assert (kinds["rulebook_changed"], kinds["ledger_read"]) == (5, 1)
    assert kinds["delivery"] >= 8
    assert story["ledger"]["entries"] == sum(kinds.values())


def _check_revocation(revocation: dict[str, Any]) -> None:
    assert (revocation["stream_ended"], revocation["refused_since"]) == ("POLICY_DENIED", "TOPIC_NOT_FOUND")
    assert revocation["took_ms"] > 0
    foreseen = revocation["simulation"]
    assert {(row["consumer"], row["change"]) for row in foreseen["rows"]} == {("transport", "loses")}
    assert foreseen["agencies"] == [
        {
            "owner": "highway-patrol",
            "consumer": "transport",
            "topic": CRASH,
            "recorded": {"before": 1, "after": 0},
            "stored": {"before": 1, "after": 0},
        }
    ]


def _check_crash(views: dict[str, Any]) -> None:
    """By the names of the sample, not by the rulebook's markings, so that a wrong marking is seen."""
    ems = views["ems"]["exch:CrashDriverInfo"]
    assert set(ems) == {"nc:Person", "j:Crash"}  # neither charge nor association
    assert ems["nc:Person"]["nc:PersonName"]["nc:PersonSurName"] == "Wimsey"
    assert ems["j:Crash"]["j:CrashPerson"]["j:CrashPersonInjury"]["nc:InjuryDescriptionText"] == "Broken Arm"
    assert licence(ems) == "A1234567"
    transport = views["transport"]["exch:CrashDriverInfo"]
    assert set(transport["nc:Person"]) == {"@id", "exch:PersonFictionalCharacterIndicator"}
    assert set(transport["j:Crash"]["j:CrashPerson"]) == {"nc:RoleOfPerson"}
    masked = {transport["j:Charge"][name] for name in transport["j:Charge"]}
    assert len(masked) == 1
    assert "Furious" not in masked.pop()
    assert licence(transport) not in ("", "A1234567")
    shown = json.dumps(views["transport"])
    for secret in ("Wimsey", "Peter", "Bredon", "1890", "Broken", "MEDICAL", "A1234567", "Furious", "CH01"):
        assert secret not in shown
    assert views["ems"]["@context"] == views["transport"]["@context"]


def licence(report: Any) -> str:
    """The driver's licence number as the report shows it."""
    licensed = report["j:Crash"]["j:CrashVehicle"]["j:CrashDriver"]["j:DriverLicense"]
    return str(licensed["j:DriverLicenseCardIdentification"]["nc:IdentificationID"])


@pytest.mark.timeout(300)  # machines may be busy
def test_the_demo_keeps_what_the_agreements_promise(tmp_path: Path) -> None:
    ran = subprocess.run(
        [ENTENTE, "demo", "-o", "json"],
        check=False,
        capture_output=True,
        text=True,
        env=environment(tmp_path),
    )
    assert ran.returncode == 0, ran.stderr
    check(json.loads(ran.stdout))
    assert list(tmp_path.iterdir()) == []
    assert processes_in(tmp_path) == []


def test_a_demo_that_is_ended_leaves_nothing(tmp_path: Path) -> None:
    demo = subprocess.Popen(
        [ENTENTE, "demo"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(tmp_path),
    )
    assert demo.stderr is not None
    with demo, demo.stderr:
        while "publishing" not in (line := demo.stderr.readline()):
            assert line, "the demo ended before it published"
        demo.send_signal(signal.SIGTERM)
        rest = demo.stderr.read()
        assert demo.wait(60) == 130
    assert "Traceback" not in rest
    assert list(tmp_path.iterdir()) == []
    assert processes_in(tmp_path) == []


@pytest.mark.kafka
@pytest.mark.timeout(300)
def test_the_demo_on_kafka(tmp_path: Path, kafka_bootstrap: str) -> None:
    ran = subprocess.run(
        [ENTENTE, "demo", "--backend", "kafka", "--kafka", kafka_bootstrap, "-o", "json"],
        check=False,
        capture_output=True,
        text=True,
        env=environment(tmp_path),
    )
    assert ran.returncode == 0, ran.stderr
    story = json.loads(ran.stdout)
    assert story["backend"] == "kafka"
    check(story)
