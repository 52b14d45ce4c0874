"""What an agency's part may name: looked at before the whole rulebook is checked, which would answer with what is hidden.

A topic that is hidden from an agency and one that does not exist get the same finding, and so does a function of another's
module. Whatever is found here is all that is told.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from broker.core.rulebook.complexity import check_complexity
from broker.core.rulebook.findings import Finding, located
from broker.core.rulebook.load import GUARANTEES
from broker.core.rulebook.ownership import check_ownership
from broker.core.rulebook.scope import is_own
from broker.core.rulebook.syntax import ParseModule
from broker.model.data_file import DataRefused, parse_yaml
from broker.model.registry import Registry
from broker.model.rulebook import Revision

_SAMPLES = frozenset({"principals.yaml", "records.yaml"})
_REMEDY = "correct the name, or ask the exchange's administrators"


def probing_findings(
    parse: ParseModule, registry: Registry, proposed: Revision, agency: str
) -> tuple[Finding, ...]:
    """What the agency's own part of a proposal refers to and may not; registry: of the revision in force."""
    own = {path: content for path, content in proposed.files.items() if is_own(agency, path)}
    modules = {path: content for path, content in own.items() if path.endswith(".rego")}
    found = list(check_complexity(modules, parse))
    if not found:
        owned = check_ownership(modules, parse, agencies={agency}, time_dependent=proposed.time_dependent)
        found = [Finding.read(str(each)) for each in owned]
    found += _names(own, _Nameable.of(registry, own, agency), agency)
    found += _taken(registry, own, agency)
    found += _others_cases(own, proposed.files, agency)
    return tuple(located(dict.fromkeys(found), own))


@dataclass(frozen=True, slots=True)
class _Nameable:
    """The topics and record types that the agency may know of, as the catalog would tell its people."""

    topics: frozenset[str]
    types: frozenset[str]

    @classmethod
    def of(cls, registry: Registry, own: Mapping[str, bytes], agency: str) -> _Nameable:
        published = {
            each.name
            for each in registry.record_types.values()
            if each.owner == agency or agency in each.publishers
        }
        granted = {topic for each in registry.granted_to(agency) for topic in each.topics}
        topics = [
            topic
            for topic in registry.topics.values()
            if topic.steward == agency or topic.name in granted or published & topic.accepts
        ]
        accepted = {name for topic in topics for name in topic.accepts}
        new = _members(own, f"data/record_types/{agency}/data.yaml")
        return cls(frozenset(topic.name for topic in topics), frozenset(published | accepted | set(new)))


def _names(own: Mapping[str, bytes], nameable: _Nameable, agency: str) -> Iterator[Finding]:
    for path in sorted(own):
        for place, name, known, what in _named(path, own, nameable, agency):
            if name not in known:
                yield Finding(path, None, f"{place}: '{name}' is no {what} that {agency} uses", _REMEDY)


def _taken(registry: Registry, own: Mapping[str, bytes], agency: str) -> Iterator[Finding]:
    """Record types that another agency has registered: not whose they are."""
    path = f"data/record_types/{agency}/data.yaml"
    for name in _members(own, path):
        known = registry.record_types.get(name)
        if known is not None and known.owner != agency:
            yield Finding(path, None, f"{name}: is no name for a new type", "use another name")


def _others_cases(own: Mapping[str, bytes], files: Mapping[str, bytes], agency: str) -> Iterator[Finding]:
    """Cases whose outcome would tell who else may subscribe, or who else administers.

    What an owner decides of its records for others is its own business, what becomes of its people is its own as well.
    """
    people = _people(own, files, agency)
    for path in sorted(own):
        is_cases = path.startswith("cases/") and path.rpartition("/")[2] not in _SAMPLES
        cases = _value(own, path) if is_cases else None
        for number, case in enumerate(cases if isinstance(cases, list) else ()):
            if isinstance(case, dict) and not _is_of_own(case, people, agency):
                what = f"{number}: is not about {agency}'s people and areas alone"
                yield Finding(path, None, what, f"let it be about {agency}'s own, or move it to cases/")


def _is_of_own(case: Mapping[str, object], people: frozenset[str], agency: str) -> bool:
    if case.get("action") not in ("subscribe", "administer"):
        return True
    changed = case.get("as")
    named = changed.get("agency", agency) if isinstance(changed, dict) else agency
    persons = {*_words(case, "who"), *_words(case, "author"), *_words(case, "approvals")}
    about = case.get("about")
    owners = {area.partition("/")[2] for area in _words(case, "areas")}
    owners |= {str(each) for each in about.values()} if isinstance(about, dict) else set()
    return named == agency and persons <= people and owners <= {agency}


def _people(own: Mapping[str, bytes], files: Mapping[str, bytes], agency: str) -> frozenset[str]:
    """The principals of this agency that its cases may name: its own, and those among the exchange's."""
    samples = {**_members(files, "cases/principals.yaml"), **_members(own, f"cases/{agency}/principals.yaml")}
    return frozenset(
        name for name, each in samples.items() if isinstance(each, dict) and each.get("agency") == agency
    )


_Named = Iterator[tuple[str, str, frozenset[str], str]]


def _named(path: str, own: Mapping[str, bytes], nameable: _Nameable, agency: str) -> _Named:
    if path == f"data/agreements/{agency}/data.yaml":
        for name, agreement in _members(own, path).items():
            for topic in _words(agreement, "topics"):
                yield f"{name}.topics", topic, nameable.topics, "topic"
    elif path.endswith(f"/{GUARANTEES}"):
        for name, guarantee in _members(own, path).items():
            records = guarantee.get("records") if isinstance(guarantee, dict) else None
            yield from _pair(f"{name}.records", records, ("topics", "types"), nameable)
    elif path.startswith("cases/") and path.endswith("/records.yaml"):
        for name, record in _members(own, path).items():
            yield from _pair(name, record, ("topic", "type"), nameable)
    elif path.startswith("cases/"):
        cases = _value(own, path)
        for number, case in enumerate(cases if isinstance(cases, list) else ()):
            yield from _pair(str(number), case, ("topic", "type"), nameable)


def _pair(place: str, value: object, keys: tuple[str, str], nameable: _Nameable) -> _Named:
    for key, known, what in zip(
        keys, (nameable.topics, nameable.types), ("topic", "record type"), strict=True
    ):
        for name in _words(value, key):
            yield f"{place}.{key}", name, known, what


def _words(value: object, key: str) -> list[str]:
    """The words of a list, or the one word."""
    found = value.get(key) if isinstance(value, dict) else None
    words = found if isinstance(found, list) else [found]
    return [word for word in words if isinstance(word, str)]


def _members(own: Mapping[str, bytes], path: str) -> Mapping[str, object]:
    value = _value(own, path)
    return value if isinstance(value, dict) else {}


def _value(own: Mapping[str, bytes], path: str) -> object:
    """What the file holds; nothing if it does not read, which the checks of the whole will tell."""
    try:
        return parse_yaml(own[path]) if path in own else None
    except DataRefused:
        return None
