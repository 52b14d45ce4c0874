"""A decision as the ledger shows it: written when it is made, and compared when it is made again."""

from __future__ import annotations

from broker.model.decision import Decision, Treatment
from broker.model.ledger import JsonValue


def output_of(decision: Decision) -> JsonValue:
    """The rulebook's answer without the item's id; a treatment shows how many characters it keeps only if any."""
    output: dict[str, JsonValue] = {
        "effect": decision.effect.value,
        "treatments": {
            marking: _treatment(treatment) for marking, treatment in sorted(decision.treatments.items())
        },
        "obligations": list(decision.obligations),
        "reasons": list(decision.reasons),
    }
    for name, instant in (("not_before", decision.not_before), ("valid_until", decision.valid_until)):
        if instant is not None:
            output[name] = instant.isoformat()
    return output


def _treatment(treatment: Treatment) -> JsonValue:
    body: dict[str, JsonValue] = {"kind": treatment.kind.value}
    if treatment.keep_first or treatment.keep_last:
        body |= {"keep_first": treatment.keep_first, "keep_last": treatment.keep_last}
    return body
