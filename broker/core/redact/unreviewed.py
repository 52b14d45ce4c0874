"""Which fields of a document its field map does not name: what the owner is told at publish."""

from __future__ import annotations

from broker.core.redact.fieldmap import FieldMap, FieldNode
from broker.core.redact.paths import Path, Wildcard, format_path


def unreviewed_paths(document: object, fieldmap: FieldMap) -> tuple[str, ...]:
    """The paths of what no path of the map names, sorted, each once; indexes as `[*]`, never a value.

    The outermost place is given: of an object that is not named, the object and not its members.
    A member's name may itself tell something, so the result is for the record's owner only.
    """
    found: set[Path] = set()
    _collect(fieldmap.root, document, (), found)
    return tuple(sorted(format_path(path) for path in found))


def _collect(node: FieldNode, value: object, path: Path, found: set[Path]) -> None:
    if node.is_named:
        return
    if isinstance(value, dict) and value and node.names:
        for name, item in value.items():
            child = node.names.get(name)
            if child is None:
                found.add((*path, name))
            else:
                _collect(child, item, (*path, name), found)
    elif isinstance(value, list) and value and node.elements is not None:
        for item in value:
            _collect(node.elements, item, (*path, Wildcard.ELEMENTS), found)
    else:
        found.add(path)
