"""What a change of the rulebook touches, told as areas, each of a kind and an owner: so that its owners are asked.

Areas follow from the paths of the files that differ, to the last comment, and never from what a file says of itself: a
module in one agency's folder may declare another's package until it is refused. What cannot be placed is the exchange's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

from broker.core.rulebook.load import GUARANTEES
from broker.model.registry import Registry
from broker.model.rulebook import Revision

_OWNED_DATA: Mapping[str, str] = {
    "administrators": "agency",
    "agencies": "agency",
    "agreements": "agreement",
    "record_types": "record_type",
}
"""By the folder below data/ that holds a folder for each agency: the kind."""
_WHOLE_DATA: Mapping[str, str] = {
    "data/topics/data.yaml": "topic",
    "data/vocabulary/data.yaml": "vocabulary",
}

AREAS_MANY = 500
"""More than so many nobody reads one by one."""


class Area(NamedTuple):
    """A part of the rulebook; owner: an agency, "" for the exchange.

    kind: exchange, agency, vocabulary, topic, module, record_type, agreement, keys, cases or guarantees.
    """

    kind: str
    owner: str = ""


def areas_of(present: Revision, proposed: Revision, registry: Registry) -> tuple[Area, ...]:
    """The areas, sorted, in which the proposed revision is not the present one; none if they are one revision.

    registry: of the present revision, which says whose keys a file holds: what the proposal says of that is part of the
    registration, and an area itself. What an agency leaves behind that the proposal does not register any more is part of
    its registration too, since an agency that leaves cannot be asked. Of many areas those that are the exchange's to decide,
    registrations and parts of agencies that are new, are told as one.
    """
    paths = {*present.files, *proposed.files}
    touched = {path for path in paths if present.files.get(path) != proposed.files.get(path)}
    owners_of_keys = key_owners(registry)
    areas = set()
    for path in touched:
        placed = (
            [Area("keys", owner) for owner in owners_of_keys[path]]
            if path in owners_of_keys
            else [_placed(path)]
        )
        left = path not in proposed.files
        areas |= {_of_who_leaves(area, proposed) if left else area for area in placed}
    if len(areas) > AREAS_MANY:
        areas = {area if _has_an_owner_to_ask(area, registry) else Area("exchange") for area in areas}
    return tuple(sorted(areas))


def _has_an_owner_to_ask(area: Area, registry: Registry) -> bool:
    return area.kind != "agency" and area.owner in registry.agencies


def key_owners(registry: Registry) -> Mapping[str, set[str]]:
    """By file of keys the agencies whose registrations name it."""
    owners: dict[str, set[str]] = defaultdict(set)
    for agency in registry.agencies.values():
        for issuer in agency.issuers:
            if issuer.jwks_file is not None:
                owners[issuer.jwks_file].add(agency.name)
    return owners


def _placed(path: str) -> Area:
    match path.split("/"):
        case ["data", kind, owner, _] if kind in _OWNED_DATA:
            return Area(_OWNED_DATA[kind], owner)
        case ["agencies", owner, name]:
            return Area("guarantees" if name == GUARANTEES else "module", owner)
        case ["agencies", owner, _, *_]:
            return Area("module", owner)
        case ["cases", owner, _]:
            return Area("cases", owner)
    return Area(_WHOLE_DATA.get(path, "exchange"))


def _of_who_leaves(area: Area, proposed: Revision) -> Area:
    leaves = area.owner and f"data/agencies/{area.owner}/data.yaml" not in proposed.files
    return Area("agency", area.owner) if leaves else area
