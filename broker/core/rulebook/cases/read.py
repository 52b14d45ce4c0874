"""Reads the cases of a revision: `cases/*.yaml` are the exchange's, `cases/<agency>/*.yaml` an agency's own.

`principals.yaml` and `records.yaml` hold what cases name; an agency's own come beside the exchange's, which all may use.
Every other file is a list of cases.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from broker.core.rulebook.cases.compose import Known, case_faults, case_of
from broker.core.rulebook.cases.item import NotInItem
from broker.core.rulebook.cases.model import Case, Cases
from broker.core.rulebook.cases.samples import (
    Fault,
    principal_faults,
    principal_of,
    record_faults,
    record_of,
    split_attributes,
)
from broker.core.rulebook.cases.shapes import (
    CaseShape,
    CasesShape,
    PrincipalShape,
    PrincipalsShape,
    RecordShape,
    RecordsShape,
)
from broker.core.rulebook.findings import Finding, line_at
from broker.core.rulebook.shape_faults import shape_faults
from broker.errors import RulebookRefused
from broker.model.data_file import DataRefused, Place, lines_of, parse_yaml
from broker.model.registry import Registry
from broker.model.rulebook import Revision

PRINCIPALS, RECORDS = "principals.yaml", "records.yaml"
_CASES: TypeAdapter[list[CaseShape]] = TypeAdapter(CasesShape)
_PRINCIPALS: TypeAdapter[dict[str, PrincipalShape]] = TypeAdapter(PrincipalsShape)
_RECORDS: TypeAdapter[dict[str, RecordShape]] = TypeAdapter(RecordsShape)
_Shape = TypeVar("_Shape")
_Made = TypeVar("_Made")


def read_cases(revision: Revision, registry: Registry) -> Cases:
    """All cases of the revision; none is not wrong.

    Raises RulebookRefused with one line for each fault: file, line, what is wrong, what to do.
    """
    reader = _Reader(revision)
    cases = reader.read(registry)
    if reader.findings:
        raise RulebookRefused(tuple(map(str, reader.findings)))
    return cases


class _Reader:
    """Reads folder by folder and gathers findings."""

    def __init__(self, revision: Revision) -> None:
        self._files = {path: content for path, content in revision.files.items() if path.startswith("cases/")}
        self._time_dependent = revision.time_dependent
        self.findings: list[Finding] = []

    def read(self, registry: Registry) -> Cases:
        """The cases of all folders; incomplete if there are findings."""
        shared = self._known("cases/", Known({}, {}, registry, self._time_dependent))
        cases = list(self._cases("cases/", None, shared))
        principals, records = dict(shared.principals), dict(shared.records)
        for agency in sorted({path.split("/")[1] for path in self._files if path.count("/") > 1}):
            folder = f"cases/{agency}/"
            if agency not in registry.agencies:
                what = f"'{agency}' is no registered agency"
                self.findings.append(Finding(folder, None, what, "register it, or rename the folder"))
                continue
            known = self._known(folder, shared)
            cases += self._cases(folder, agency, known)
            # Two agencies may give their own samples one name.
            principals |= {folder + name: principal for name, principal in known.principals.items()}
            records |= {folder + name: record for name, record in known.records.items()}
        times = {str(case.item["time"]) for case in cases if "time" in case.item}
        return Cases(
            tuple(cases), _distinct(principals.values()), _distinct(records.values()), tuple(sorted(times))
        )

    def _known(self, folder: str, shared: Known) -> Known:
        """What the cases of a folder may name: the exchange's samples and the folder's own."""
        registry = shared.registry
        principals = self._samples(
            folder + PRINCIPALS,
            _PRINCIPALS,
            principal_of,
            lambda shape: principal_faults(shape, registry),
            shared,
        )
        records = self._samples(
            folder + RECORDS, _RECORDS, record_of, lambda shape: record_faults(shape, registry), shared
        )
        return Known(
            {**shared.principals, **principals}, {**shared.records, **records}, registry, self._time_dependent
        )

    def _samples(
        self,
        path: str,
        adapter: TypeAdapter[dict[str, _Shape]],
        make: Callable[[str, _Shape], _Made],
        faults: Callable[[_Shape], Iterable[Fault]],
        shared: Known,
    ) -> dict[str, _Made]:
        if path not in self._files:
            return {}
        members, lines = self._parse(path, adapter, shared.registry, {})
        for name, shape in members.items():
            self._note(path, lines, name, faults(shape))
            if name in (shared.principals if path.endswith(PRINCIPALS) else shared.records):
                self._note(path, lines, name, [((), "is one of the exchange's too", "use another name")])
        return {name: make(name, shape) for name, shape in members.items()}

    def _cases(self, folder: str, agency: str | None, known: Known) -> Iterator[Case]:
        for path in sorted(self._files):
            inside = path.removeprefix(folder)
            if not path.startswith(folder) or "/" in inside or inside in {PRINCIPALS, RECORDS}:
                continue
            shapes, lines = self._parse(path, _CASES, known.registry, [])
            for index, shape in enumerate(shapes):
                faults = list(case_faults(shape, known, agency))
                self._note(path, lines, index, faults)
                if faults:
                    continue
                try:
                    line = lines[(index,)]
                    yield case_of(shape, known, file=path, line=line, number=index + 1, agency=agency)
                except NotInItem as missing:
                    fault = (("without",), f"the item holds no {missing}", "correct the path")
                    self._note(path, lines, index, [fault])

    def _note(
        self, path: str, lines: Mapping[Place, int], member: str | int, faults: Iterable[Fault]
    ) -> None:
        for place, what, remedy in faults:
            whole = (member, *place)
            named = ".".join(map(str, place if isinstance(member, int) else whole))
            said = f"{named}: {what}" if named else what
            self.findings.append(Finding(path, line_at(lines, whole), said, remedy))

    def _parse(
        self, path: str, adapter: TypeAdapter[_Shape], registry: Registry, otherwise: _Shape
    ) -> tuple[_Shape, Mapping[Place, int]]:
        lines: Mapping[Place, int] = {(): 1}
        try:
            lines = lines_of(self._files[path])
            value = parse_yaml(self._files[path])
            if path.endswith(f"/{PRINCIPALS}"):
                value = _with_attributes(value, registry)
            return adapter.validate_python(value), lines
        except DataRefused as error:
            self.findings.append(Finding.read(f"{path}: {error}"))
        except ValidationError as error:
            self.findings += shape_faults(path, error, lines)
        return otherwise, lines


def _distinct(samples: Iterable[_Made]) -> tuple[_Made, ...]:
    return tuple(dict.fromkeys(samples))


def _with_attributes(value: object, registry: Registry) -> object:
    """Attributes are written beside the other keys, since the vocabulary knows their names."""
    if not isinstance(value, dict):
        return value
    words = registry.vocabulary
    return {
        name: split_attributes(member, words) if isinstance(member, dict) else member
        for name, member in value.items()
    }
