"""Reads a rulebook directory into a content-addressed revision."""

from __future__ import annotations

import re
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from broker.errors import RulebookRefused
from broker.model.data_file import DataRefused, parse_yaml
from broker.model.rulebook import Revision, revision_id

FILE_LIMITS_BYTES: Mapping[str, int] = {"data": 64 * 1024 * 1024}
"""The largest file of a folder at the top: 150,000 agreements of one owner take about 300 bytes each."""

FILE_LIMIT_BYTES = 1024 * 1024
"""The largest file elsewhere. Cases and guarantees are kept with the line of each thing in them."""

TOTAL_LIMIT_BYTES = 512 * 1024 * 1024
FILES_LIMIT = 100_000
DEPTH_LIMIT = 8
FINDINGS_LIMIT = 100
"""The most faults that are told at once."""

FOLDER_LIMITS: Mapping[str, int] = {"agencies": 100, "cases": 100, "entente": 1_000, "schemas": 100}
"""The most files of one agency's modules, of its cases, of the exchange's cases, of its modules, and of schemas."""

GUARANTEES = "guarantees.yaml"

_SEGMENT = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
_KINDS: Mapping[str, str] = {
    "entente": "*.rego",
    "agencies": "*.rego",
    "cases": "*.yaml",
    "data": "data.yaml",
    "schemas": "*.schema.json",
    "keys": "*.jwks.json",
}
"""By the folder at the top: the only names of files there."""
_DEPTHS: Mapping[str, range] = {"cases": range(2, 4)}
"""How many names a path there may have, where that is not free: the exchange's cases, and those of one agency."""
_GUARANTEES_DEPTHS: Mapping[str, int] = {"entente": 2, "agencies": 3}
_SINGLE = frozenset({"capabilities.json", "manifest.yaml"})
_REQUIRED = frozenset({*_SINGLE, "schemas/input.schema.json", "schemas/decision.schema.json"})
_BESIDE = frozenset({"README.md", ".regal", ".git", ".gitignore", ".gitattributes"})
"""What may lie in the directory without being part of the revision: a text, the linter's settings, version control's."""


def read_rulebook(directory: Path) -> Revision:
    """The revision that the files of `directory` make up.

    Raises RulebookRefused with a line for each file that is a symbolic link, oddly named, misplaced, too large or
    unreadable, and for each required file that is missing. Blocking; call it in a thread.
    """
    files: dict[str, bytes] = {}
    findings: list[str] = []
    total_bytes = 0
    for path, relative in _walk(directory, findings):
        try:
            content = path.read_bytes()
        except OSError as error:
            findings.append(f"{relative}: cannot be read ({error.strerror}); correct its permissions")
            continue
        total_bytes += len(content)
        files[relative] = content
        if total_bytes > TOTAL_LIMIT_BYTES or len(files) > FILES_LIMIT:
            findings.append(too_much(str(directory)))
            break
    if findings:
        raise RulebookRefused(_first(findings))
    return revision_of(files)


def revision_of(files: Mapping[str, bytes]) -> Revision:
    """The revision that consists of exactly `files`; raises RulebookRefused as `read_rulebook` does."""
    findings = [f"{name}: is missing; a rulebook needs it" for name in sorted(_REQUIRED - files.keys())]
    findings += [f"{name}: {what}" for name in sorted(files) if (what := misplaced(name))]
    findings += _folders_that_are_files(files)
    findings += _crowded(files)
    if findings:
        raise RulebookRefused(_first(findings))
    return Revision(revision_id(files), dict(files), _time_dependent(files["manifest.yaml"]))


def misplaced(name: str) -> str | None:
    """Why no file of a rulebook may have this path, and what to do; None if one may."""
    relative = PurePosixPath(name)
    parts = relative.parts
    if len(parts) == 1:
        return None if parts[0] in _SINGLE else "is not part of a rulebook; move it elsewhere"
    kind = _KINDS.get(parts[0]) if parts else None
    if kind is None or relative.as_posix() != name or not all(_SEGMENT.fullmatch(part) for part in parts):
        return "is not part of a rulebook; move it elsewhere"
    if len(parts) > DEPTH_LIMIT or len(parts) not in _DEPTHS.get(parts[0], range(DEPTH_LIMIT + 1)):
        return "lies too deep; move it up"
    if relative.name == GUARANTEES and _GUARANTEES_DEPTHS.get(parts[0]) == len(parts):
        return None
    if not fnmatchcase(relative.name, kind):
        return f"does not belong under {parts[0]}/, which holds only {kind}; move or rename it"
    return None


def limit_of(name: str) -> int:
    """The most bytes of a file at this path."""
    return FILE_LIMITS_BYTES.get(name.partition("/")[0], FILE_LIMIT_BYTES)


def too_much(place: str) -> str:
    """The finding for a rulebook that is larger than any."""
    return (
        f"{place}: more than {TOTAL_LIMIT_BYTES} bytes or {FILES_LIMIT} files; leave out what is no rulebook"
    )


def _folders_that_are_files(files: Iterable[str]) -> Iterator[str]:
    """No directory could hold both, and a document of OPA's data would be the one or the other."""
    names = frozenset(files)
    folders = {folder for name in names for folder in _folders(name)}
    for name in sorted(names & folders):
        yield f"{name}: is a file and a folder at once; rename one of them"


def _folders(name: str) -> Iterator[str]:
    end = name.rfind("/")
    while end > 0:
        yield name[:end]
        end = name.rfind("/", 0, end)


def _crowded(files: Iterable[str]) -> Iterator[str]:
    """Folders with more files than one owner may have: checking takes time for each, which is everybody's."""
    counts = Counter(_owned_folder(PurePosixPath(name).parts) for name in files)
    for folder, count in sorted(counts.items()):
        limit = FOLDER_LIMITS.get(folder.partition("/")[0], FILES_LIMIT)
        if count > limit:
            yield f"{folder}: holds {count} files, more than {limit}; join them"


def _owned_folder(parts: Sequence[str]) -> str:
    by_agency = parts[:1] == ("agencies",) or (parts[:1] == ("cases",) and len(parts) > 2)
    return "/".join(parts[: 2 if by_agency else 1])


def _first(findings: Sequence[str]) -> tuple[str, ...]:
    """As many as anybody reads."""
    if len(findings) <= FINDINGS_LIMIT:
        return tuple(findings)
    left = len(findings) - FINDINGS_LIMIT
    return (*findings[:FINDINGS_LIMIT], f"the rulebook: has {left} more such findings; correct these first")


def _walk(directory: Path, findings: list[str]) -> Iterator[tuple[Path, str]]:
    """Regular files that belong to the rulebook, in the order of their names; everything else gives a finding."""
    if not directory.is_dir():
        findings.append(f"{directory}: is no directory; name the rulebook's directory")
        return
    pending = [entry for entry in _entries(directory, findings) if entry.name not in _BESIDE]
    while pending:
        path = pending.pop()
        relative = path.relative_to(directory).as_posix()
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode) and _SEGMENT.fullmatch(path.name) and relative.count("/") < DEPTH_LIMIT:
            pending += _entries(path, findings)
        elif what := _refused(path, mode, limit_of(relative)) or misplaced(relative):
            findings.append(f"{relative}: {what}")
        else:
            yield path, relative


def _entries(directory: Path, findings: list[str]) -> list[Path]:
    try:
        return sorted(directory.iterdir(), reverse=True)
    except OSError as error:
        findings.append(f"{directory}: cannot be read ({error.strerror}); correct its permissions")
        return []


def _refused(path: Path, mode: int, limit_bytes: int) -> str | None:
    if stat.S_ISLNK(mode):
        return "is a symbolic link; put the file itself there"
    if not _SEGMENT.fullmatch(path.name):
        return "has a name with other characters than a-z, 0-9, '.', '_' and '-'; rename it"
    if stat.S_ISDIR(mode):
        return "lies too deep; move it up"
    if not stat.S_ISREG(mode):
        return "is no regular file; remove it"
    if path.lstat().st_size > limit_bytes:
        return f"is larger than {limit_bytes} bytes; split it"
    return None


def _time_dependent(manifest: bytes) -> bool:
    try:
        value = parse_yaml(manifest)
    except DataRefused as error:
        raise RulebookRefused((f"manifest.yaml: {error}",)) from None
    if (
        not isinstance(value, dict)
        or set(value) != {"time_dependent"}
        or not isinstance(value["time_dependent"], bool)
    ):
        raise RulebookRefused(
            ("manifest.yaml: must hold exactly 'time_dependent: true' or 'false'; write that",)
        )
    return value["time_dependent"]
