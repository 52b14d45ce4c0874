"""Compares two revisions."""

from __future__ import annotations

from broker.core.rulebook.difference.data import data_changes
from broker.core.rulebook.difference.model import Change, How
from broker.core.rulebook.difference.modules import module_changes
from broker.core.rulebook.syntax import Node, ParseModule
from broker.errors import RulebookRefused
from broker.model.rulebook import Revision


def compare(old: Revision, new: Revision, parse: ParseModule) -> tuple[Change, ...]:
    """Everything that is different, by kind and name; nothing exactly if they are one revision.

    A file of which only comments or layout are different is told as "text". Raises RulebookRefused for data or modules
    that cannot be read. Blocking.
    """
    touched = [
        path for path in sorted({*old.files, *new.files}) if old.files.get(path) != new.files.get(path)
    ]
    changes: list[Change] = []
    for path in touched:
        if not path.endswith(".rego"):
            changes += data_changes(path, old.files.get(path), new.files.get(path))
    # Others in the same folder may define rules of the same name.
    folders = {path.rpartition("/")[0] for path in touched if path.endswith(".rego")}
    modules = [
        path
        for path in sorted({*old.files, *new.files})
        if path.endswith(".rego") and path.rpartition("/")[0] in folders
    ]
    told = {change.file for change in changes}
    changes += module_changes(_parsed(old, modules, parse), _parsed(new, modules, parse), told)
    changes += [
        Change("text", path, How.CHANGED, _owner(path), path, None) for path in touched if path not in told
    ]
    return tuple(sorted(changes, key=_order))


def _order(change: Change) -> tuple[str, str, int, str]:
    return change.kind, change.file, change.line or 0, change.name


def _parsed(revision: Revision, paths: list[str], parse: ParseModule) -> dict[str, Node]:
    found: dict[str, Node] = {}
    for path in paths:
        if path in revision.files:
            try:
                found[path] = parse(path, revision.files[path])
            except ValueError:
                what = f"{path}:1: is not valid Rego; run `entente rulebook check` on it"
                raise RulebookRefused((what,)) from None
    return found


def _owner(path: str) -> str | None:
    parts = path.split("/")
    if parts[0] in {"agencies", "cases"} and len(parts) > 2:
        return parts[1]
    owned = parts[0] == "data" and parts[1] in {"agreements", "record_types"}
    return parts[2] if owned else None
