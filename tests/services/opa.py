"""The real OPA behind the fixture `opa_binary`."""

from __future__ import annotations

import functools
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OPA = ROOT / ".tools" / "bin" / "opa"
PINNED_MINOR = "1.22"


class OpaUnavailable(Exception):
    """OPA is missing or of another version; the text says in one line what to do."""


@functools.cache
def find_opa() -> Path:
    """The OPA that `make setup` put in place; raises OpaUnavailable if it is missing or of another minor version."""
    if not OPA.exists():
        raise OpaUnavailable(f"opa is not in {OPA.parent}; run `make setup`")
    done = subprocess.run([OPA, "version"], capture_output=True, text=True, timeout=30, check=True)
    found = re.search(r"^Version: (\d+\.\d+)", done.stdout, re.MULTILINE)
    if found is None or found.group(1) != PINNED_MINOR:
        raise OpaUnavailable(f"{OPA} is not OPA {PINNED_MINOR}; remove it and run `make setup`")
    return OPA
