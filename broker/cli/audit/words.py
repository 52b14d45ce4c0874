"""What decisions mean, in plain words, for reports and tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from broker.model.ledger import JsonValue

_ACTIONS = {
    "keep": "in full",
    "mask": "masked",
    "pseudonym": "replaced by a pseudonym",
    "remove": "removed",
}

MEANINGS = (
    ("in full", "the fields of this kind were handed out as they were published"),
    ("masked", "a filler of fixed length was handed out instead, with at most some characters at either end"),
    (
        "replaced by a pseudonym",
        "a name that stands for the value, always the same for this receiver and purpose, and another for anybody else",
    ),
    ("removed", "the fields of this kind were left out without a trace"),
)
"""What became of fields, explained."""


def treatments_in_words(
    treatments: Mapping[str, JsonValue], decision: Mapping[str, JsonValue]
) -> list[tuple[str, str]]:
    """(what became of them, which markings), in a fixed order. A marking that the decision does not mention was removed."""
    by_action: dict[str, list[str]] = {}
    for marking in sorted({*treatments, *_markings(decision)}):
        by_action.setdefault(_action(treatments.get(marking)), []).append(marking)
    order = list(_ACTIONS.values())
    ranked = sorted(by_action.items(), key=lambda pair: (order.index(pair[0].split(" (")[0]), pair[0]))
    return [(action, ", ".join(markings)) for action, markings in ranked]


def labels_in_words(labels: Mapping[str, JsonValue]) -> str:
    """The labels that a record carries, `name: value` after `name: value`."""
    return "; ".join(f"{name}: {_plain(value)}" for name, value in sorted(labels.items()) if value) or "none"


def _action(treatment: JsonValue) -> str:
    if not isinstance(treatment, dict):
        return _ACTIONS["remove"]
    kept = [
        f"the {side} {count}"
        for name, side in (("keep_first", "first"), ("keep_last", "last"))
        if isinstance(count := treatment.get(name), int) and count
    ]
    action = _ACTIONS.get(str(treatment.get("kind")), _ACTIONS["remove"])
    return f"{action} (except {' and '.join(kept)} characters)" if kept else action


def _markings(decision: Mapping[str, JsonValue]) -> list[str]:
    """The markings that a record of this type may carry, as the decision's input lists them."""
    match decision.get("input"):
        case {"record": {"markings": list(markings)}}:
            return [str(marking) for marking in markings]
    return []


def _plain(value: JsonValue) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
