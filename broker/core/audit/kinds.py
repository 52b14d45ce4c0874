"""Which parts an entry of each kind has (docs/ledger.md says what is in them)."""

from __future__ import annotations

KINDS: dict[str, frozenset[str]] = {
    kind: frozenset({"rules", *parts.split()})
    for kind, parts in {
        "acknowledged": "acknowledged",
        "call_refused": "who call decisions",
        "clock_step": "step",
        "configuration": "start",
        "delivery": "class receivers handed_out count digest places decisions considered",
        "engine_fault": "class faulted",
        "instance_fenced": "change",
        "key_rotated": "change",
        "ledger_read": "who query",
        "moved": "who stream move",
        "overlay_changed": "who change decisions",
        "preview": "who call",
        "publish": "who call records stored decisions digest",
        "refused_aggregate": "refused",
        "rulebook_changed": "who change decisions",
        "stream_closed": "who stream end considered",
        "stream_opened": "who stream decisions",
        "subscription": "who change",
    }.items()
}
"""By kind the names of all its parts."""

ROOTS = frozenset({"handed_out"})
"""Parts of which the ledger holds only a root: nothing opens them."""

CONSUMER_PARTS = frozenset({"class", "count", "receivers"})
"""Parts of a delivery that its receiver may see, of `receivers` only its own item; the others say what was withheld."""
