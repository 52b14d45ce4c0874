"""What the ledger publishes, given to public implementations of the same specifications (deploy/tools/ledgercheck)."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

LEDGERCHECK = Path(__file__).resolve().parents[2] / ".tools" / "bin" / "ledgercheck"

CheckValue = str | int | bytes | Sequence[bytes]


class LedgercheckUnavailable(Exception):
    """The program is not there; one line that says what to do."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the program says of one check; size, root and time_s as it read them, where there are any."""

    ok: bool
    error: str = ""
    size: int = 0
    root: bytes = b""
    time_s: int = 0


def run_ledgercheck(checks: Sequence[Mapping[str, CheckValue]]) -> list[Verdict]:
    """A verdict for each check; main.go lists the kinds and their members. Raises LedgercheckUnavailable."""
    if not LEDGERCHECK.exists():
        raise LedgercheckUnavailable(f"ledgercheck is not in {LEDGERCHECK.parent}; run `make setup-test`")
    request = {"checks": [{name: _encoded(value) for name, value in check.items()} for check in checks]}
    done = subprocess.run(
        [LEDGERCHECK], input=json.dumps(request).encode(), capture_output=True, timeout=60, check=False
    )
    if done.returncode not in (0, 1):
        raise ValueError(done.stderr.decode())
    verdicts = [_verdict(json.loads(line)) for line in done.stdout.splitlines()]
    if len(verdicts) != len(checks) or all(verdict.ok for verdict in verdicts) != (done.returncode == 0):
        raise ValueError("ledgercheck's answers do not fit the checks")
    return verdicts


def _encoded(value: CheckValue) -> str | int | list[str]:
    if isinstance(value, str | int):
        return value
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return [base64.b64encode(item).decode() for item in value]


def _verdict(answer: dict[str, str | int | bool]) -> Verdict:
    root = base64.b64decode(str(answer.pop("root", "")))
    return Verdict(root=root, **answer)  # type: ignore[arg-type]
