"""What a bundle holds beside a revision's data: where in it something is, so that no rule has to search.

`policy/entente/index` asks it. It is derived from the data files alone, and its form is kept for good, or decisions of
today could not be made again years later: another form gets another number.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

import orjson

from broker.model.data_file import JsonValue

FORM = 1
INDEX_ROOT = "index"


class DataIndex:
    """Gathers what the data files say, one after the other. What is not of a data file's shape is left out."""

    def __init__(self) -> None:
        self._agreements: dict[str, Mapping[str, list[str]]] = {}
        self._granting: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        self._record_types: dict[str, list[str]] = defaultdict(list)
        self._publishers: dict[str, Mapping[str, Mapping[str, bool]]] = {}

    def add(self, path: str, value: JsonValue) -> None:
        """Note what the file at `path` holds; files of no use here are ignored."""
        parts = path.split("/")
        if len(parts) != 4 or not isinstance(value, dict):
            return
        _, kind, owner, _ = parts
        if kind == "agreements":
            self._add_agreements(owner, value)
        elif kind == "record_types":
            self._add_record_types(owner, value)

    def document(self) -> bytes:
        """The index as JSON; the same for the same files in the same order."""
        return orjson.dumps(
            {
                "form": FORM,
                "agreements": self._agreements,
                "granting": self._granting,
                "record_types": self._record_types,
                "publishers": self._publishers,
            }
        )

    def _add_agreements(self, owner: str, members: Mapping[str, JsonValue]) -> None:
        ids: dict[str, list[str]] = defaultdict(list)
        for name, agreement in members.items():
            consumer = agreement.get("consumer") if isinstance(agreement, dict) else None
            if isinstance(consumer, str):
                ids[consumer].append(name)
                for topic in _texts(agreement, "topics"):
                    self._add_granting(consumer, topic, owner)
        self._agreements[owner] = ids

    def _add_granting(self, consumer: str, topic: str, owner: str) -> None:
        owners = self._granting[consumer][topic]
        if not owners or owners[-1] != owner:  # a file is one owner's
            owners.append(owner)

    def _add_record_types(self, owner: str, members: Mapping[str, JsonValue]) -> None:
        types = {name: value for name, value in members.items() if isinstance(value, dict)}
        self._publishers[owner] = {
            name: dict.fromkeys(_texts(types[name], "publishers"), True) for name in types
        }
        for name in types:
            self._record_types[name].append(owner)


def _texts(value: Mapping[str, JsonValue], key: str) -> Iterator[str]:
    listed = value.get(key)
    yield from (each for each in listed if isinstance(each, str)) if isinstance(listed, list) else ()
