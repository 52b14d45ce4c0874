"""Where a stored leaf belongs, read off its bytes without parsing it: adapters look at each entry they read."""

from __future__ import annotations

import re
from dataclasses import dataclass

# Canonical JSON sorts the members, so these stand at the two ends of every leaf.
_BEGIN = re.compile(rb'\{"epoch":(\d{1,18}),"index":(\d{1,18}),"instance":"')
_END = re.compile(rb',"time_ms":(\d{1,18}),"v":\d+\}\Z')
_END_BYTES = 64


@dataclass(frozen=True, slots=True)
class Heading:
    """Epoch, index and time (milliseconds since 1970) of a leaf."""

    epoch: int
    index: int
    time_ms: int


def read_heading(leaf: bytes) -> Heading | None:
    """The heading, or None for what is no leaf; one that is found does not mean that the rest is whole."""
    begin, end = _BEGIN.match(leaf), _END.search(leaf, max(0, len(leaf) - _END_BYTES))
    return None if begin is None or end is None else Heading(int(begin[1]), int(begin[2]), int(end[1]))
