"""The pinned OPA on the default rulebook, for tests that ask it without a broker."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

RULEBOOK = Path(__file__).resolve().parents[2] / "policy"
ENTRY_POINT = "data.entente.decision.decisions"

Item = Mapping[str, Any]
Output = Mapping[str, Any]


def run_opa(opa: Path, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """The finished process; a test looks at its code and output."""
    return subprocess.run(
        [opa, *arguments], input=stdin, capture_output=True, text=True, timeout=60, check=False
    )


def decide(opa: Path, items: Sequence[Any], *, rulebook: Path = RULEBOOK) -> list[Output]:
    """The outputs of one batch, in OPA's order; raises AssertionError with OPA's own words if there are none."""
    done = run_opa(
        opa,
        *("eval", "--bundle", str(rulebook), "--stdin-input", "--format", "raw", ENTRY_POINT),
        stdin=json.dumps({"items": items}),
    )
    assert done.returncode == 0, done.stderr + done.stdout
    outputs: list[Output] = json.loads(done.stdout)
    return outputs


def parse_module(opa: Path, path: str, source: bytes) -> dict[str, object]:
    """OPA's syntax tree of one module; raises ValueError if it does not parse."""
    done = run_opa(
        opa,
        *("parse", "--format", "json", "--json-include", "locations,-comments", "/dev/stdin"),
        stdin=source.decode(),
    )
    if done.returncode != 0:
        raise ValueError(path)
    tree: dict[str, object] = json.loads(done.stdout)
    return tree
