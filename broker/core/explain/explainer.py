"""Explains to administrators: the rules that held, the data that they read, and which agreement came nearest."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from broker.core.explain.agreements import Wanted, nearest
from broker.core.explain.model import Explanation, NearAgreement, Place
from broker.core.rulebook.registry import parse_registry
from broker.core.rulebook.scope import View
from broker.model.data_file import lines_of
from broker.model.ledger import JsonValue
from broker.model.registry import Agreement, Registry
from broker.model.rulebook import Revision
from broker.ports.rule_tracer import RuleTracer, Trace

_ID = "explained"
_HIDDEN_REASON = "a rule of the other side"


@dataclass(frozen=True, slots=True)
class Known:
    """A revision, and what it registers."""

    revision: Revision
    registry: Registry

    @classmethod
    async def read(cls, revision: Revision) -> Known:
        """Raises RulebookRefused for one that never could be in force."""
        return cls(revision, await asyncio.to_thread(parse_registry, revision))


class Explainer:
    """Explains under any revision. Whoever calls has asked whether that is permitted."""

    def __init__(self, tracer: RuleTracer) -> None:
        self._tracer = tracer

    async def explain(
        self, known: Known, question: Mapping[str, JsonValue], view: View, time_ms: int
    ) -> Explanation:
        """Why the revision answers the question, an input item without its id, as it does: as far as `view` goes.

        time_ms: when it is asked; rules that depend on the time are given it, unless the question has one.
        Raises NoDecision if it cannot be found out.
        """
        item = {name: value for name, value in question.items() if name != "id"}
        time = datetime.fromtimestamp(time_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        if known.revision.time_dependent:
            item.setdefault("time", time)
        trace = await self._tracer.trace(known.revision, {**item, "id": _ID})
        # A rulebook may hold a million agreements.
        return await asyncio.to_thread(_explanation, known, item, trace, view, time)


def _explanation(
    known: Known, item: dict[str, JsonValue], trace: Trace, view: View, time: str
) -> Explanation:
    files = _Lines(known.revision.files)
    owners = _owners(item, known.registry, view)
    return Explanation(
        revision=known.revision.id,
        question=item,
        output=_shown_output(trace, view),
        rules=tuple(Place(use.file, use.line, use.rule) for use in trace.rules if view.sees(use.file)),
        data=tuple(_read(item, trace, known.registry, files, view)),
        agreements=tuple(_near(item, known.registry, owners, files, time)),
    )


class _Lines:
    """Where members of data files begin; each file is read once."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files
        self._lines: dict[str, Mapping[tuple[str | int, ...], int]] = {}

    def place(self, file: str, what: str, key: str | None = None) -> Place | None:
        """Where a file's member, or the file, stands; None if there is no such file."""
        if file not in self._files:
            return None
        if key is None:
            return Place(file, 1, what)
        if file not in self._lines:
            self._lines[file] = lines_of(self._files[file], lambda place: len(place) == 1)
        return Place(file, self._lines[file].get((key,), 1), what)


def _shown_output(trace: Trace, view: View) -> dict[str, JsonValue] | None:
    """What an agency's module gives as its reason begins with the agency's name, and is for its own people."""
    output: Any = trace.output
    if output is None or view.agency is None:
        return output  # type: ignore[no-any-return]
    theirs = {use.file.split("/")[1] for use in trace.rules if use.file.startswith("agencies/")} - {
        view.agency
    }
    hidden = tuple(f"{agency}: " for agency in theirs)
    reasons = [
        _HIDDEN_REASON if reason.startswith(hidden) else reason for reason in output.get("reasons", ())
    ]
    return {**output, "reasons": list(dict.fromkeys(reasons))}


def _owners(item: Mapping[str, JsonValue], registry: Registry, view: View) -> list[str]:
    """Whose agreements the answer may rest on: the record's owner, or, for a topic, all who grant anything there."""
    record = item.get("record")
    if isinstance(record, dict):
        owners = [str(record.get("agency"))]
    else:
        granted = registry.agreements if view.agency is None else registry.granted_by(view.agency)
        owners = sorted({each.owner for each in granted if item.get("topic") in each.topics})
    return [owner for owner in owners if view.agency in (None, owner)]


def _near(
    item: Mapping[str, JsonValue], registry: Registry, owners: Iterable[str], files: _Lines, time: str
) -> Iterator[NearAgreement]:
    subject = item.get("subject")
    if item.get("action") not in {"deliver", "subscribe"} or not isinstance(subject, dict):
        return
    record = item.get("record")
    labels = record.get("labels") if isinstance(record, dict) else None
    classification = labels.get("dataclassification") if isinstance(labels, dict) else None
    wanted = Wanted(
        str(subject.get("agency")),
        str(item.get("topic")),
        str(subject.get("purpose")),
        None if classification is None else str(classification),
        time,
    )
    for owner in owners:
        if owner != wanted.consumer:
            yield from nearest(
                registry.granted_by(owner),
                wanted,
                registry.vocabulary,
                lambda each: _agreement_place(each, files),
            )


def _agreement_place(agreement: Agreement, files: _Lines) -> Place:
    file = f"data/agreements/{agreement.owner}/data.yaml"
    what = f"agreement {agreement.owner}/{agreement.id}"
    return files.place(file, what, agreement.id) or Place(file, 1, what)


def _read(
    item: Mapping[str, JsonValue], trace: Trace, registry: Registry, files: _Lines, view: View
) -> Iterator[Place]:
    """The members of the data that the question names, of the roots that the rules looked at."""
    found: list[Place | None] = []
    subject, record, topic = item.get("subject"), item.get("record"), str(item.get("topic"))
    if "agencies" in trace.reads and isinstance(subject, dict):
        agency = str(subject.get("agency"))
        found.append(files.place(f"data/agencies/{agency}/data.yaml", f"registration of {agency}"))
    if "topics" in trace.reads and topic in registry.topics:
        found.append(files.place("data/topics/data.yaml", f"topic {topic}", topic))
    if "record_types" in trace.reads and isinstance(record, dict):
        name = str(record.get("type"))
        if name in registry.record_types:
            file = f"data/record_types/{registry.record_types[name].owner}/data.yaml"
            found.append(files.place(file, f"record type {name}", name))
    if "vocabulary" in trace.reads:
        found.append(files.place("data/vocabulary/data.yaml", "vocabulary"))
    yield from (place for place in found if place is not None and _may_see(view, place.file))


def _may_see(view: View, file: str) -> bool:
    """Topics are shown to who may ask about one at all; everything else as it is."""
    return view.sees(file) or file.startswith("data/topics/")
