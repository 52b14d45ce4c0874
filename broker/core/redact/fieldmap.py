"""A record type's field markings, compiled into a trie of paths.

Markings inherit downward and add up. A field is *named* when a path ends at it or at an ancestor; every other
field has the marking `unreviewed`. What is not what the map expects is not named either: a scalar where the
paths lead through an object or array, an object where they lead through an array (and the reverse), and an
empty object or array that no path names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from broker.core.redact.paths import Path, Wildcard, format_path, parse_path

UNREVIEWED: Final = "unreviewed"
"""The marking of each field that no path names. Built in: no path may carry it."""


@dataclass(frozen=True, slots=True)
class FieldNode:
    """One place of the trie.

    markings: those of the paths that end here or at an ancestor; empty where paths only lead through.
    names: the members that paths lead to. elements: where `[*]` leads, if any path has it here.
    """

    markings: frozenset[str]
    names: Mapping[str, FieldNode]
    elements: FieldNode | None

    @property
    def is_named(self) -> bool:
        """Whether a path ends here or at an ancestor."""
        return bool(self.markings)


@dataclass(frozen=True, slots=True)
class FieldMap:
    """The compiled field markings of one record type."""

    root: FieldNode
    markings: frozenset[str]
    """All markings that a field of the type may have, `unreviewed` included."""

    @staticmethod
    def compile(fields: Mapping[str, Sequence[str]]) -> FieldMap:
        """The map of `path -> markings`; two spellings of one path add up.

        Raises ValueError for a path outside the permitted form (PathError), one without markings, which would
        leave its fields without any treatment, and one that uses the built-in marking `unreviewed`.
        """
        draft = _Draft()
        for text, markings in fields.items():
            path = parse_path(text)
            _check_markings(path, markings)
            draft.place(path).markings.update(markings)
        names = frozenset(marking for markings in fields.values() for marking in markings)
        return FieldMap(draft.freeze(frozenset()), names | {UNREVIEWED})


@dataclass(slots=True)
class _Draft:
    """A node while the trie is being built."""

    markings: set[str] = field(default_factory=set)
    names: dict[str, _Draft] = field(default_factory=dict)
    elements: _Draft | None = None

    def place(self, path: Path) -> _Draft:
        node = self
        for segment in path:
            if isinstance(segment, Wildcard):
                node.elements = node.elements or _Draft()
                node = node.elements
            else:
                node = node.names.setdefault(segment, _Draft())
        return node

    def freeze(self, inherited: frozenset[str]) -> FieldNode:
        markings = inherited | self.markings
        return FieldNode(
            markings,
            {name: child.freeze(markings) for name, child in self.names.items()},
            self.elements.freeze(markings) if self.elements else None,
        )


def _check_markings(path: Path, markings: Sequence[str]) -> None:
    if isinstance(markings, str) or not markings or not all(markings):
        raise ValueError(f"field path {format_path(path)}: a list of at least one marking is expected")
    if UNREVIEWED in markings:
        raise ValueError(
            f"field path {format_path(path)}: '{UNREVIEWED}' is built in; leave the path out instead"
        )
