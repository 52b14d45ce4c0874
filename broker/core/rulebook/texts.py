"""Whether a rulebook's files are texts that read as they run.

Whoever approves a change reads it on a screen. Characters that turn the direction of writing around, or that a terminal
obeys, show other rules than those that decide (CVE-2021-42574).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

_TURNING = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_CONTROL = "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029"
_HIDDEN = re.compile(f"[{_TURNING}{_CONTROL}]")


def check_texts(files: Mapping[str, bytes]) -> Iterator[str]:
    """One line, with file and line, for each file that is no UTF-8 or holds a character that must not be there."""
    for name in sorted(files):
        content = files[name]
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError as error:
            line = content[: error.start].count(b"\n") + 1
            yield f"{name}:{line}: is not UTF-8; save it as UTF-8"
            continue
        if found := _HIDDEN.search(text):
            line = text.count("\n", 0, found.start()) + 1
            yield f"{name}:{line}: holds the invisible character U+{ord(found.group()):04X}; remove it"
