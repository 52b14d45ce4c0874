"""Checkpoints that somebody else kept: what the ledger once was, and so must still be."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from broker.core.audit.checkpoints import Opened
from broker.core.audit.findings import Findings
from broker.core.audit.trust import Trust
from broker.core.checkpoint.checkpoint import Checkpoint
from broker.core.checkpoint.cosignature import cosignature_time_s
from broker.core.checkpoint.note import NoteInvalid, SignedNote

_REMEDY = "take it from the witness again"


@dataclass(frozen=True, slots=True)
class Witnessed:
    """A witnessed checkpoint, and which of those that were given it is (0, 1, …)."""

    number: int
    opened: Opened


def read_witnessed(trust: Trust, findings: Findings) -> dict[str, list[Witnessed]]:
    """By instance, which an origin names after its last slash; those that cannot be read or lack a cosignature are told."""
    found: defaultdict[str, list[Witnessed]] = defaultdict(list)
    for number, content in enumerate(trust.after):
        try:
            note = SignedNote.parse(content)
            checkpoint = Checkpoint.parse(note.text)
            cosigned = [cosignature_time_s(note, witness) is not None for witness in trust.witnesses]
        except NoteInvalid as error:
            findings.fault("", None, f"the witnessed checkpoint {number} cannot be used: {error}", _REMEDY)
            continue
        if trust.witnesses and not any(cosigned):
            what = f"the witnessed checkpoint {number} is cosigned by no witness that you trust"
            findings.fault("", None, what, _REMEDY)
            continue
        instance = checkpoint.origin.rpartition("/")[2]
        found[instance].append(Witnessed(number, Opened(checkpoint, note, ())))
    return dict(found)
