"""What the demo saw, and what the sample agreements promise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from broker.core.simulate.model import Simulation
from broker.demo.samples import CRASH_REPORTS, THREATS, TOPICS, VULNERABILITIES

PRINCIPALS: Mapping[str, str] = {
    "highway-patrol": "law-enforcement",
    "ems": "emergency-response",
    "transport": "road-safety-statistics",
    "cyber-centre": "cyber-defence",
    "partner-cert": "cyber-defence",
}
"""The sample principals (their contexts' names) and the purpose that each states."""


@dataclass(frozen=True, slots=True)
class Received:
    """What one principal met on one topic.

    refused: the reason, or None. whole, redacted, notices: numbers of deliveries. removed, changed: paths of fields
    that were taken out, and that read otherwise, in any of them.
    """

    refused: str | None = None
    whole: int = 0
    redacted: int = 0
    notices: int = 0
    removed: frozenset[str] = frozenset()
    changed: frozenset[str] = frozenset()
    masked: tuple[str, ...] = ()
    obligations: tuple[str, ...] = ()
    classifications: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Revocation:
    """What was foreseen of a revocation, and what came.

    took_ms: from the call until nothing could be released any more. ended: why the consumer's open stream ended; refused:
    what the consumer is told that asks again. None: nothing of the kind.
    """

    simulation: Simulation
    took_ms: int
    ended: str | None
    refused: str | None


@dataclass(frozen=True, slots=True)
class Story:
    """The whole demo. `crash_views`: the crash report's content as an agency received it."""

    backend: str
    published: Mapping[str, int]
    received: Mapping[tuple[str, str], Received]
    crash_views: Mapping[str, object]
    revocation: Revocation
    ledger_entries: Mapping[str, int]
    elapsed_s: float
    faults: tuple[str, ...]


_HIDDEN = Received(refused="TOPIC_NOT_FOUND")
_EXPECTED: Mapping[tuple[str, str], Received] = {
    ("highway-patrol", CRASH_REPORTS): Received(whole=1),
    ("highway-patrol", VULNERABILITIES): Received(whole=1404),
    ("highway-patrol", THREATS): _HIDDEN,
    ("ems", CRASH_REPORTS): Received(redacted=1),
    ("ems", VULNERABILITIES): _HIDDEN,
    ("ems", THREATS): _HIDDEN,
    ("transport", CRASH_REPORTS): Received(redacted=1),
    ("transport", VULNERABILITIES): _HIDDEN,
    ("transport", THREATS): _HIDDEN,
    ("cyber-centre", CRASH_REPORTS): Received(notices=1),
    ("cyber-centre", VULNERABILITIES): Received(whole=1404),
    ("cyber-centre", THREATS): Received(whole=8),
    ("partner-cert", CRASH_REPORTS): _HIDDEN,
    ("partner-cert", VULNERABILITIES): Received(whole=1111),
    ("partner-cert", THREATS): Received(whole=8),
}
_REMOVED: Mapping[str, frozenset[str]] = {
    "ems": frozenset({"criminal"}),
    "transport": frozenset({"medical", "pii"}),
}
_CHANGED: Mapping[str, frozenset[str]] = {
    "ems": frozenset(),
    "transport": frozenset({"criminal", "identifier"}),
}
_PUBLISHED: Mapping[str, int] = {CRASH_REPORTS: 1, VULNERABILITIES: 1404, THREATS: 8}


def expected_count(principal: str, topic: str) -> int:
    """How many deliveries the principal is to receive."""
    promised = _EXPECTED[principal, topic]
    return promised.whole + promised.redacted + promised.notices


def find_faults(
    published: Mapping[str, int],
    received: Mapping[tuple[str, str], Received],
    markings: Mapping[str, frozenset[str]],
    ledger_entries: Mapping[str, int],
) -> tuple[str, ...]:
    """One line for each thing that is not as promised. `markings`: of each path of the crash type."""
    faults = [
        f"{topic}: {published.get(topic, 0)} published, {_PUBLISHED[topic]} expected"
        for topic in TOPICS
        if published.get(topic, 0) != _PUBLISHED[topic]
    ]
    for (principal, topic), promised in _EXPECTED.items():
        met = received[principal, topic]
        for name in ("refused", "whole", "redacted", "notices"):
            got, wanted = getattr(met, name), getattr(promised, name)
            if got != wanted:
                faults.append(f"{principal} on {topic}: {name} is {got}, {wanted} expected")
    for principal in _REMOVED:
        faults += _redaction_faults(principal, received[principal, CRASH_REPORTS], markings)
    faults += _classification_faults(received)
    if not ledger_entries.get("delivery") or not ledger_entries.get("publish"):
        faults.append("the ledger accounts for no publication or no delivery")
    return tuple(faults)


def _redaction_faults(principal: str, met: Received, markings: Mapping[str, frozenset[str]]) -> list[str]:
    """Exactly the fields of the agreement's markings are gone, and exactly those others read otherwise."""
    gone = frozenset(path for path, names in markings.items() if names & _REMOVED[principal])
    other = frozenset(path for path, names in markings.items() if names & _CHANGED[principal]) - gone
    faults = []
    if met.removed != gone:
        faults.append(
            f"{principal}: removed fields differ from those marked {', '.join(sorted(_REMOVED[principal]))}"
        )
    if met.changed != other:
        faults.append(f"{principal}: replaced fields differ from those of the agreement")
    return faults


def _classification_faults(received: Mapping[tuple[str, str], Received]) -> list[str]:
    permitted = {"clear", "green"}
    seen = set(received["partner-cert", VULNERABILITIES].classifications)
    seen |= set(received["partner-cert", THREATS].classifications)
    return [f"partner-cert received records labelled {name}" for name in sorted(seen - permitted)]
