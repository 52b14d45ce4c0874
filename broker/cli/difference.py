"""What a redacted document lacks, and what it shows otherwise, by path."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from broker.core.redact.paths import Path, Wildcard, format_path


def compare(original: object, shown: object) -> tuple[list[str], list[str]]:
    """Paths of leaves (array elements as [*]) that are gone from `shown`, and of those that read otherwise."""
    before, after = _by_path(original), _by_path(shown)
    removed = [path for path, values in before.items() if len(after.get(path, ())) < len(values)]
    changed = [path for path, values in before.items() if path not in removed and after[path] != values]
    return removed, changed


def _by_path(document: object) -> dict[str, list[object]]:
    found: dict[str, list[object]] = defaultdict(list)
    for path, value in _leaves(document, ()):
        found[format_path(path)].append(value)
    return dict(found)


def _leaves(value: object, path: Path) -> Iterator[tuple[Path, object]]:
    if isinstance(value, dict) and value:
        for name, member in value.items():
            yield from _leaves(member, (*path, name))
    elif isinstance(value, list) and value:
        for element in value:
            yield from _leaves(element, (*path, Wildcard.ELEMENTS))
    else:
        yield path, value
