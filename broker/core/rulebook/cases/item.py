"""From a case to the input item that it stands for, as the broker would send it, or wrong in the way that the case says."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from broker.core.questions import UNREVIEWED, markings_of
from broker.core.rulebook.cases.model import RecordSample, Sample
from broker.core.rulebook.cases.shapes import CaseShape
from broker.model.registry import Registry

_LISTS = frozenset({"dataregulation", "purposes", "releasableto"})


class NotInItem(Exception):
    """`without` names what the item does not hold."""


def make_item(
    shape: CaseShape, people: Mapping[str, Sample], record: RecordSample | None, registry: Registry
) -> dict[str, object]:
    """The item without its id. people: the principals that cases may name. Raises NotInItem."""
    item: dict[str, Any] = {"action": shape.action, "subject": _subject(shape, people[shape.who], registry)}
    if shape.action == "audit":
        item["scope"] = shape.scope
    elif shape.action == "administer":
        item |= _administered(shape, people)
    elif record is None:
        item["topic"] = shape.topic
    else:
        item |= {"topic": shape.topic or record.topic, "record": _record(shape, record, registry)}
    if shape.at is not None:
        item["time"] = shape.at
    for path in shape.without:
        _remove(item, _whole_path(path, registry))
    return item


def _subject(shape: CaseShape, who: Sample, registry: Registry) -> dict[str, object]:
    """A deliver item says nothing of the person; publish and audit ask for no purpose."""
    subject = copy.deepcopy(who.subject.as_input())
    changed = dict(shape.as_)
    attributes = {name: changed.pop(name) for name in list(changed) if name in registry.vocabulary.attributes}
    subject |= changed | {"attributes": {**dict(who.subject.attributes), **attributes}}
    subject["roles"] = _sorted(subject["roles"])
    if shape.action in {"administer", "audit", "publish"} or subject["purpose"] == "":
        del subject["purpose"]
    if shape.action != "deliver":
        subject["id"] = changed.get("id", who.id)
    return subject


def _administered(shape: CaseShape, people: Mapping[str, Sample]) -> dict[str, object]:
    """What is to be done. An area is written KIND or KIND/OWNER."""
    areas = [dict(zip(("kind", "owner"), area.partition("/")[::2], strict=True)) for area in shape.areas]
    persons = {name: {"agency": each.subject.agency, "id": each.id} for name, each in people.items()}
    return {
        "verb": shape.verb,
        "areas": sorted(areas, key=lambda area: (area["kind"], area["owner"])),
        "author": None if shape.author is None else persons[shape.author],
        "approvals": sorted(
            (persons[name] for name in set(shape.approvals)), key=lambda each: (each["agency"], each["id"])
        ),
        "about": shape.about,
    }


def _record(shape: CaseShape, record: RecordSample, registry: Registry) -> dict[str, object]:
    type_name = shape.type or record.type
    registered = registry.record_types.get(type_name)
    changed = {name: _sorted(value) if name in _LISTS else value for name, value in shape.labels.items()}
    return {
        "type": type_name,
        "agency": shape.owner or record.owner,
        "labels": record.labels.as_input() | changed,
        "markings": [UNREVIEWED] if registered is None else markings_of(registered),
    }


def _sorted(value: object) -> object:
    """Lists of words, as the broker sends them: sorted, each once."""
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return sorted(set(value))
    return value


def _whole_path(path: str, registry: Registry) -> list[str]:
    """`roles`, `purpose` and the names of attributes stand for the subject's."""
    if path in {"purpose", "roles"}:
        return ["subject", path]
    if path in registry.vocabulary.attributes:
        return ["subject", "attributes", path]
    return path.split(".")


def _remove(item: Mapping[str, object], path: list[str]) -> None:
    at: object = item
    for key in path[:-1]:
        at = at.get(key) if isinstance(at, dict) else None
    if not isinstance(at, dict) or path[-1] not in at:
        raise NotInItem(".".join(path))
    del at[path[-1]]
