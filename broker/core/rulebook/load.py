"""Reads a rulebook directory into a content-addressed revision."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from broker.errors import RulebookRefused
from broker.model.data_file import DataRefused, parse_yaml
from broker.model.rulebook import Revision, revision_id

FILE_LIMIT_BYTES = 64 * 1024 * 1024
"""The largest file: a million agreements in one owner's file take about 300 bytes each in the largest plausible case."""

TOTAL_LIMIT_BYTES = 512 * 1024 * 1024
FILES_LIMIT = 100_000

_SEGMENT = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
_KINDS: Mapping[str, str] = {
    "entente": "*.rego",
    "agencies": "*.rego",
    "data": "data.yaml",
    "schemas": "*.schema.json",
    "keys": "*.jwks.json",
}
"""By the folder at the top: the only names of files there, at any depth."""
_SINGLE = frozenset({"capabilities.json", "manifest.yaml"})
_REQUIRED = frozenset({*_SINGLE, "schemas/input.schema.json", "schemas/decision.schema.json"})
_BESIDE = frozenset({"cases", "README.md", ".regal"})
"""What may lie in the directory without being part of the revision: the YAML cases, a text, the linter's settings."""


def read_rulebook(directory: Path) -> Revision:
    """The revision that the files of `directory` make up.

    Raises RulebookRefused with a line for each file that is a symbolic link, oddly named, misplaced or too large, and for
    each required file that is missing. Blocking; call it in a thread.
    """
    files: dict[str, bytes] = {}
    findings: list[str] = []
    total_bytes = 0
    for path, relative in _walk(directory, findings):
        content = path.read_bytes()
        total_bytes += len(content)
        files[relative] = content
        if total_bytes > TOTAL_LIMIT_BYTES or len(files) > FILES_LIMIT:
            findings.append(
                f"{directory}: more than {TOTAL_LIMIT_BYTES} bytes or {FILES_LIMIT} files; leave out what is no rulebook"
            )
            break
    if findings:
        raise RulebookRefused(tuple(findings))
    return revision_of(files)


def revision_of(files: Mapping[str, bytes]) -> Revision:
    """The revision that consists of exactly `files`; raises RulebookRefused as `read_rulebook` does."""
    findings = [f"{name}: is missing; a rulebook needs it" for name in sorted(_REQUIRED - files.keys())]
    findings += [f"{name}: {what}" for name in sorted(files) if (what := _misplaced(PurePosixPath(name)))]
    if findings:
        raise RulebookRefused(tuple(findings))
    return Revision(revision_id(files), dict(files), _time_dependent(files["manifest.yaml"]))


def _walk(directory: Path, findings: list[str]) -> Iterator[tuple[Path, str]]:
    """Regular files that belong to the rulebook, in the order of their names; everything else gives a finding."""
    if not directory.is_dir():
        findings.append(f"{directory}: is no directory; name the rulebook's directory")
        return
    pending = [entry for entry in _entries(directory) if entry.name not in _BESIDE]
    while pending:
        path = pending.pop()
        relative = path.relative_to(directory).as_posix()
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode) and _SEGMENT.fullmatch(path.name):
            pending += _entries(path)
        elif what := _refused(path, mode) or _misplaced(PurePosixPath(relative)):
            findings.append(f"{relative}: {what}")
        else:
            yield path, relative


def _entries(directory: Path) -> list[Path]:
    return sorted(directory.iterdir(), reverse=True)


def _refused(path: Path, mode: int) -> str | None:
    if stat.S_ISLNK(mode):
        return "is a symbolic link; put the file itself there"
    if not _SEGMENT.fullmatch(path.name):
        return "has a name with other characters than a-z, 0-9, '.', '_' and '-'; rename it"
    if not stat.S_ISREG(mode):
        return "is no regular file; remove it"
    if path.lstat().st_size > FILE_LIMIT_BYTES:
        return f"is larger than {FILE_LIMIT_BYTES} bytes; split it"
    return None


def _misplaced(relative: PurePosixPath) -> str | None:
    top = relative.parts[0]
    if len(relative.parts) == 1:
        return None if top in _SINGLE else "is not part of a rulebook; move it elsewhere"
    kind = _KINDS.get(top)
    if kind is None or not all(_SEGMENT.fullmatch(part) for part in relative.parts):
        return "is not part of a rulebook; move it elsewhere"
    if not fnmatchcase(relative.name, kind):
        return f"does not belong under {top}/, which holds only {kind}; move or rename it"
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
