"""Questions: input items in canonical form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import orjson


@dataclass(frozen=True, slots=True)
class Question:
    """One input item, without its id and time.

    key: the canonical JSON of the whole item, so that nothing that a decision may depend on can be forgotten in it.
    owner: the agency whose records (or calls) the question is about; the quota of new label sets is its own.
    subject_agency: the agency that asks or receives.
    personal: whether it is about one person (publish, subscribe) instead of a class of subjects (deliver).
    label_set: what the quota counts: the item's record with its topic; None if the item has no record.
    """

    key: bytes
    item: Mapping[str, object]
    owner: str
    subject_agency: str
    personal: bool
    label_set: bytes | None


def make_question(item: Mapping[str, object], owner: str) -> Question:
    """The question for an item without `id` and `time`; its lists must already be in canonical order.

    Callers keep the question and ask it again: making one costs several times as much as looking it up.
    """
    subject, record = item.get("subject"), item.get("record")
    return Question(
        key=_canonical(item),
        item=item,
        owner=owner,
        subject_agency=str(subject.get("agency")) if isinstance(subject, Mapping) else "",
        personal=item.get("action") != "deliver",
        label_set=None if record is None else _canonical([item.get("topic"), record]),
    )


def canary(time: str | None) -> dict[str, object]:
    """An item that every rulebook answers: may nobody subscribe to nothing? Tells a broken item from a broken engine."""
    subject = {"agency": "nobody", "id": "canary", "roles": [], "attributes": {}, "purpose": "none"}
    item: dict[str, object] = {"id": "canary", "action": "subscribe", "subject": subject, "topic": "canary"}
    return item if time is None else item | {"time": time}


def _canonical(value: object) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
