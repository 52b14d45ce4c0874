"""Differences between data files: agencies, topics, record types, agreements, vocabularies, cases and guarantees."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cached_property

import orjson

from broker.core.rulebook.difference.model import Change, Detail, How
from broker.core.rulebook.difference.values import canonical, details, same, shown
from broker.core.rulebook.findings import line_at
from broker.errors import RulebookRefused
from broker.model.data_file import DataRefused, Place, lines_of, parse_yaml

_MEMBERS = {
    "topics": "topic",
    "record_types": "record type",
    "agreements": "agreement",
}
_SAMPLES = {"principals.yaml": "principal of cases", "records.yaml": "record of cases"}


def data_changes(path: str, old: bytes | None, new: bytes | None) -> Iterator[Change]:
    """What is different in one file that is no module; nothing if it means the same. Raises RulebookRefused."""
    before, after = _File(path, old), _File(path, new)
    parts = path.split("/")
    if parts[0] == "data" and parts[1] in _MEMBERS:
        owner = parts[2] if len(parts) > 3 else None
        yield from _members(_MEMBERS[parts[1]], owner, before, after, prefix=f"{owner}/" if owner else "")
    elif parts[0] == "data" and parts[1] == "agencies":
        yield from _whole("agency", parts[2], None, before, after)
    elif parts[0] == "data" and parts[1] == "administrators":
        yield from _whole("administrators", parts[2], None, before, after)
    elif parts[-1] == "guarantees.yaml":
        owner = parts[1] if parts[0] == "agencies" else None
        yield from _members("guarantee", owner, before, after, prefix=f"{owner}/" if owner else "")
    elif parts[0] == "cases":
        owner = parts[1] if len(parts) > 2 else None
        if parts[-1] in _SAMPLES:
            yield from _members(
                _SAMPLES[parts[-1]], owner, before, after, prefix=f"{owner}/" if owner else ""
            )
        else:
            yield from _cases(path, owner, before, after)
    elif parts[0] == "keys":
        yield from _keys(path, before, after)
    else:
        kinds = {
            "capabilities.json": "built-ins",
            "manifest.yaml": "manifest",
            "data/administration/data.yaml": "administration",
        }
        kind = kinds.get(path, "schema" if parts[0] == "schemas" else "vocabulary")
        yield from _whole(kind, path, None, before, after)


class _File:
    """One version of a file: its value, None if it is not there, and the lines of what stands at its top."""

    def __init__(self, path: str, content: bytes | None) -> None:
        self.path = path
        self.value: object = None
        self._content = content
        if content is None:
            return
        try:
            if path.endswith(".json"):
                self.value = orjson.loads(content)
                orjson.dumps(
                    self.value
                )  # writes fewer levels than it reads, and whoever compares fewer still
            else:
                self.value = parse_yaml(content)
        except orjson.JSONEncodeError:
            raise RulebookRefused((f"{path}: is nested too deeply; flatten it",)) from None
        except (DataRefused, orjson.JSONDecodeError) as error:
            what = str(error) if isinstance(error, DataRefused) else "is not JSON; correct the syntax"
            raise RulebookRefused((f"{path}: {what}",)) from None

    def members(self) -> Mapping[str, object]:
        """The members of an object; none of anything else."""
        return self.value if isinstance(self.value, dict) else {}

    def line(self, *place: str | int) -> int:
        """Where a place stands."""
        return line_at(self._lines, place)

    @cached_property
    def _lines(self) -> Mapping[Place, int]:
        """Looked up for what is told only: in a large file that takes longer than reading it."""
        if self._content is None or self.path.endswith(".json"):
            return {(): 1}
        return lines_of(self._content, lambda place: len(place) == 1)


def _whole(kind: str, name: str, owner: str | None, before: _File, after: _File) -> Iterator[Change]:
    """A file that is one thing."""
    if same(before.value, after.value):
        return
    how = How.ADDED if before.value is None else How.REMOVED if after.value is None else How.CHANGED
    found = () if how is not How.CHANGED else _named(kind, before.value, after.value)
    yield Change(kind, name, how, owner, after.path, 1, found)


def _named(kind: str, before: object, after: object) -> tuple[Detail, ...]:
    """Built-ins by their names alone: the rest of each is its signature."""
    if kind == "built-ins":
        before, after = _by_names(before), _by_names(after)
    return details(before, after)


def _by_names(capabilities: object) -> object:
    """As it is, where it is none that OPA reads."""
    builtins = capabilities.get("builtins") if isinstance(capabilities, dict) else None
    if isinstance(capabilities, dict) and isinstance(builtins, list):
        names = [each.get("name") if isinstance(each, dict) else each for each in builtins]
        return {**capabilities, "builtins": names}
    return capabilities


def _members(
    kind: str, owner: str | None, before: _File, after: _File, *, prefix: str = ""
) -> Iterator[Change]:
    """A file of many things, each with a name."""
    old, new = before.members(), after.members()
    for name in sorted({*old, *new}):
        if name not in new:
            yield Change(kind, prefix + name, How.REMOVED, owner, before.path, before.line(name))
        elif name not in old:
            yield Change(kind, prefix + name, How.ADDED, owner, after.path, after.line(name))
        elif not same(old[name], new[name]):
            found = details(old[name], new[name])
            yield Change(kind, prefix + name, How.CHANGED, owner, after.path, after.line(name), found)


def _cases(path: str, owner: str | None, before: _File, after: _File) -> Iterator[Change]:
    """A file of cases, which have no names: one that reads otherwise is another."""
    for one, other, how in ((after, before, How.ADDED), (before, after, How.REMOVED)):
        left = Counter(map(canonical, _elements(other)))
        for index, case in enumerate(_elements(one)):
            if left[canonical(case)] > 0:
                left[canonical(case)] -= 1
            else:
                yield Change("case", shown(case), how, owner, path, one.line(index))


def _elements(file: _File) -> list[object]:
    return file.value if isinstance(file.value, list) else []


def _keys(path: str, before: _File, after: _File) -> Iterator[Change]:
    """Key sets by the ids of their keys."""
    old, new = _by_id(before), _by_id(after)
    for name in sorted({*old, *new}):
        if not same(old.get(name), new.get(name)):
            how = How.ADDED if name not in old else How.REMOVED if name not in new else How.CHANGED
            yield Change("key", f"{path.removeprefix('keys/')} {name}", how, None, path, None)


def _by_id(file: _File) -> dict[str, object]:
    keys = file.members().get("keys")
    return (
        {str(key.get("kid")): key for key in keys if isinstance(key, dict)} if isinstance(keys, list) else {}
    )
