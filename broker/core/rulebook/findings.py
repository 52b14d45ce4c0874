"""What is wrong with a rulebook: where, what, and what to do."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from broker.model.data_file import DataRefused, Place, lines_of

_WRITTEN = re.compile(r"(?P<file>[^:]+?)(:(?P<line>[0-9]+))?: (?P<what>.*)", re.DOTALL)
_LINE = re.compile(r"line (?P<line>[0-9]+): (?P<what>.*)", re.DOTALL)


class Severity(StrEnum):
    """An error keeps a rulebook out; a warning asks for a look."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line for people. `file` is a path inside the rulebook, `line` counts from 1, None is the file as a whole."""

    file: str
    line: int | None
    what: str
    remedy: str
    severity: Severity = Severity.ERROR

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.what}; {self.remedy}"

    @classmethod
    def read(cls, text: str) -> Finding:
        """The error that was written `FILE[:LINE]: WHAT; REMEDY`, as every line of RulebookRefused is."""
        said, _, remedy = text.rpartition("; ")
        found = _WRITTEN.fullmatch(said or remedy)
        if found is None:
            return cls("rulebook", None, said or remedy, remedy)
        line = found["line"]
        return cls(found["file"], None if line is None else int(line), found["what"], remedy)


def located(findings: Iterable[Finding], files: Mapping[str, bytes]) -> Iterator[Finding]:
    """The findings, with the line of the place that one of a data file names by its keys.

    files: path inside the rulebook -> content.
    """
    for finding in findings:
        if finding.line is None and finding.file.endswith(".yaml") and finding.file in files:
            finding = _located(finding, files[finding.file])
        yield finding


def _located(finding: Finding, content: bytes) -> Finding:
    if told := _LINE.fullmatch(finding.what):
        return replace(finding, line=int(told["line"]), what=told["what"])
    try:
        lines = lines_of(content)
    except DataRefused:
        return finding
    said = finding.what.removeprefix("$.")
    # What is missing has no line of its own: the longest place that is there is the nearest.
    for place in sorted(lines, key=len, reverse=True):
        if place and said.startswith(_dotted(place)):
            return replace(finding, line=lines[place])
    return replace(finding, line=lines[()])


def _dotted(place: Place) -> tuple[str, str, str]:
    """How a finding may begin that is about this place."""
    written = ".".join(map(str, place))
    return f"{written}:", f"{written}.", f"{written}["


def line_at(lines: Mapping[Place, int], place: Place) -> int:
    """The line of the place, or of the nearest one around it that is there."""
    while place not in lines:
        place = place[:-1]
    return lines[place]
