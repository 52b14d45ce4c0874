"""Who saw a record and what an agency saw, for those who read the ledger through the broker, each its part of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import orjson

from broker.core.audit.pages import page_start, page_token
from broker.core.audit.readings import Readings
from broker.core.audit.sightings import what_saw, who_saw
from broker.core.audit.view import Scope, shown_decision
from broker.core.record.envelope import source_agency
from broker.errors import EntenteError, Reason
from broker.model.audit import Publication, Reception, Sighting
from broker.model.ledger import JsonValue
from broker.model.principal import Principal
from broker.ports.audit_index import AuditIndex

ROWS_DEFAULT, ROWS_MOST = 500, 1_000
ZONE_MINUTES = 24 * 60

_Row = TypeVar("_Row")


@dataclass(frozen=True, slots=True)
class SightingsPage:
    """`publications` on the first page only; `next_token` "" on the last.

    hashes: those of the entries' leaves, by instance and index. whole: places and rules are shown.
    """

    publications: tuple[Publication, ...] = ()
    sightings: tuple[Sighting, ...] = ()
    hashes: Mapping[tuple[str, int], bytes] = field(default_factory=dict)
    complete: bool = False
    whole: bool = False
    next_token: str = ""


@dataclass(frozen=True, slots=True)
class ReceptionsPage:
    """Ordered by day, topic, purpose, type and labels; {} and 0 stand for labels and counts that are not shown."""

    receptions: tuple[Reception, ...]
    next_token: str


class SightingsDesk:
    """Both methods raise EntenteError: see the service Ledger."""

    def __init__(self, readings: Readings) -> None:
        self._readings = readings

    async def who_saw(
        self, principal: Principal, source: str, record_id: str, *, page_size: int = 0, token: str = ""
    ) -> SightingsPage:
        """Who was handed a record; of others' records an administrator learns nothing, not even that they exist."""
        scope = await self._readings.scope(principal)
        about: dict[str, JsonValue] = {"source": source, "id": record_id}
        question = ["WhoSaw", *about.values()]
        start = page_start(question, token)[1]
        async with self._readings.begin(principal, scope, "WhoSaw", about, page_token=token) as reading:
            if not scope.sees(source_agency(source)):
                return SightingsPage()
            found = await who_saw(reading.index, source, record_id)
            rows, next_token = _page(question, found.sightings, start, page_size)
            publications = () if start else found.publications
            places = {(each.instance, each.index) for each in publications}
            places |= {(each.instance, each.index) for each in rows}
            return SightingsPage(
                publications,
                tuple(_shown_sighting(scope, sighting) for sighting in rows),
                await _hashes(reading.index, places),
                found.complete,
                scope.agency is None,
                next_token,
            )

    async def what_saw(
        self,
        principal: Principal,
        agency: str,
        topic: str,
        *,
        zone_minutes: int = 0,
        page_size: int = 0,
        token: str = "",
    ) -> ReceptionsPage:
        """What an agency received; of another agency an administrator learns what it received of the own records."""
        scope = await self._readings.scope(principal)
        about: dict[str, JsonValue] = {"agency": agency, "topic": topic, "zone_minutes": zone_minutes}
        question = ["WhatSaw", *about.values()]
        start = page_start(question, token)[1]
        if abs(zone_minutes) > ZONE_MINUTES:
            raise EntenteError(Reason.REQUEST_INVALID, f"zone_minutes is beyond {ZONE_MINUTES}")
        async with self._readings.begin(principal, scope, "WhatSaw", about, page_token=token) as reading:
            owner = None if scope.sees(agency) else scope.agency
            found = await what_saw(reading.index, agency, topic or None, zone_minutes, owner)
        shown = found if scope.agency is None else _shown_receptions(scope.agency, agency, found)
        rows, next_token = _page(question, shown, start, page_size)
        return ReceptionsPage(rows, next_token)


async def _hashes(index: AuditIndex, places: Iterable[tuple[str, int]]) -> dict[tuple[str, int], bytes]:
    rows = [await index.entry(*place) for place in places]
    return {(row.instance, row.index): row.leaf_hash for row in rows if row is not None}


def _page(
    question: Sequence[object], rows: Sequence[_Row], start: int, page_size: int
) -> tuple[tuple[_Row, ...], str]:
    end = start + min(page_size or ROWS_DEFAULT, ROWS_MOST)
    return tuple(rows[start:end]), page_token(question, "", end) if end < len(rows) else ""


def _shown_sighting(scope: Scope, sighting: Sighting) -> Sighting:
    """An administrator sees own records only: of who received them the agency, unless they are its own people."""
    if scope.agency is None:
        return sighting
    shown = replace(
        sighting, decision=shown_decision(sighting.decision), revision="", engine="", partition=0, offset=0
    )
    if scope.sees(sighting.agency):
        return shown
    return replace(shown, subject="", token="", certificate=None, subscription="", stream="", ended=None)


def _shown_receptions(administrators: str, agency: str, found: Sequence[Reception]) -> list[Reception]:
    """Own records with their labels; others' records, which own people received, whatever their labels in one row."""
    shown: dict[tuple[str, ...], Reception] = {}
    for row in found:
        if row.owner == administrators:
            row = row if agency == administrators else replace(row, handed_out=0)
        elif agency == administrators:
            row = replace(row, labels={}, entries=0)  # their sum would tell how many label sets there are
        else:
            continue
        key = (row.day, row.topic, row.purpose, row.type, row.owner, row.effect, _text(row.labels))
        shown[key] = _together(shown[key], row) if key in shown else row
    return list(shown.values())


def _together(one: Reception, other: Reception) -> Reception:
    return replace(
        one,
        records=one.records + other.records,
        handed_out=one.handed_out + other.handed_out,
        entries=one.entries + other.entries,
        first_ms=min(one.first_ms, other.first_ms),
        last_ms=max(one.last_ms, other.last_ms),
    )


def _text(labels: Mapping[str, JsonValue]) -> str:
    return orjson.dumps(labels, option=orjson.OPT_SORT_KEYS).decode()
