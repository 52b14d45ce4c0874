"""What is wrong with a rulebook: where, what, and what to do."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import defaultdict
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

    files: path inside the rulebook -> content. Each file is looked through once, however many findings it has.
    """
    found = [_with_line_told(finding, files) for finding in findings]
    wanted: dict[str, set[str]] = defaultdict(set)
    for finding in found:
        if finding.line is None and finding.file.endswith(".yaml") and finding.file in files:
            wanted[finding.file].add(_place_in(finding))
    lines = {file: _lines_by_text(files[file], said) for file, said in wanted.items()}
    for finding in found:
        line = lines.get(finding.file, {}).get(_place_in(finding)) if finding.line is None else None
        yield finding if line is None else replace(finding, line=line)


def _with_line_told(finding: Finding, files: Mapping[str, bytes]) -> Finding:
    """A finding that says its line in words says it in its place."""
    told = _LINE.fullmatch(finding.what) if finding.line is None and finding.file in files else None
    return finding if told is None else replace(finding, line=int(told["line"]), what=told["what"])


def _place_in(finding: Finding) -> str:
    return finding.what.removeprefix("$.")


def _lines_by_text(content: bytes, said: Iterable[str]) -> Mapping[str, int]:
    """By what is said, the line of the longest place that it begins with: what is missing has no line of its own."""
    texts = sorted(said)

    def begun(place: Place) -> Iterator[str]:
        written = ".".join(map(str, place))
        for text in texts[bisect_left(texts, written) :]:
            if not text.startswith(written):
                break
            if text.startswith((f"{written}:", f"{written}.", f"{written}[")):
                yield text

    try:
        lines = lines_of(content, lambda place: any(begun(place)))
    except DataRefused:
        return {}
    # Shorter places come first, and longer ones replace them.
    by_text = dict.fromkeys(texts, lines[()])
    for place in sorted(lines, key=len):
        if place:
            by_text |= dict.fromkeys(begun(place), lines[place])
    return by_text


def line_at(lines: Mapping[Place, int], place: Place) -> int:
    """The line of the place, or of the nearest one around it that is there."""
    while place not in lines:
        place = place[:-1]
    return lines[place]
