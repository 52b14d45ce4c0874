"""From a revision's data files to the registry, or to every reason why not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from broker.core.rulebook.read_before import ReadBefore, ReadFile, digest_of
from broker.core.rulebook.references import TOPICS, VOCABULARY, References
from broker.core.rulebook.registration import (
    Agreements,
    administration_of,
    agency_of,
    record_types_of,
    topic_of,
    vocabulary_of,
)
from broker.core.rulebook.shape_faults import faults_of, what_and_remedy
from broker.core.rulebook.shapes import (
    AdministrationShape,
    AdministratorsShape,
    AgencyShape,
    AgreementShape,
    Name,
    RecordTypeShape,
    TopicShape,
    TypeName,
    VocabularyShape,
)
from broker.errors import RulebookRefused
from broker.model.data_file import DataRefused, JsonValue, parse_yaml
from broker.model.registry import Agreement, Registry
from broker.model.rulebook import Revision

ADMINISTRATION = "data/administration/data.yaml"
"""How many have to approve."""

FINDINGS_LIMIT = 100
"""The most faults that are looked for: nobody reads more at once, and a large rulebook could have millions."""

_SLICE = 1_000
"""So many members of a file are checked at once: the faults of each slice are in memory together."""

_MEMBERS_LIMIT = 10_000
"""The most members of one agency, agreement, record type or topic, and of what is within it."""

_NAME: TypeAdapter[str] = TypeAdapter(Name)
_TOPICS = TypeAdapter(dict[Name, TopicShape])
_TYPES = TypeAdapter(dict[TypeName, RecordTypeShape])
_AGREEMENTS = TypeAdapter(dict[Name, AgreementShape])
_AGENCY = TypeAdapter(AgencyShape)
_VOCABULARY = TypeAdapter(VocabularyShape)
_ADMINISTRATION = TypeAdapter(AdministrationShape)
_ADMINISTRATORS: TypeAdapter[list[str]] = TypeAdapter(AdministratorsShape)
_Shape = TypeVar("_Shape")


def parse_registry(revision: Revision, before: ReadBefore | None = None) -> Registry:
    """What the revision's data registers.

    before: what an earlier reading left, and what this one leaves: files of agreements that are the same are not read again.
    Raises RulebookRefused with one line for each fault, up to FINDINGS_LIMIT: file, key, what is wrong, what to do.
    """
    reader = _Reader(revision.files)
    vocabulary = reader.whole(VOCABULARY, _VOCABULARY)
    topics = reader.members(TOPICS, _TOPICS)
    agencies = {
        name: shape for name, path in reader.each("agencies") if (shape := reader.whole(path, _AGENCY))
    }
    types = {owner: reader.members(path, _TYPES) for owner, path in reader.each("record_types")}
    administrators = {
        agency: tuple(subjects)
        for agency, path in reader.each("administrators")
        if (subjects := reader.whole(path, _ADMINISTRATORS)) is not None
    }
    # Without it, as without administrators, nothing can be changed; the examination tells, and rules apply all the same.
    administration = (
        reader.whole(ADMINISTRATION, _ADMINISTRATION) if ADMINISTRATION in revision.files else None
    )
    if vocabulary is None or reader.findings:
        # Without these nothing can be said of what agreements refer to, but of their shape it can.
        for _, path in reader.each("agreements"):
            reader.members(path, _AGREEMENTS)
        raise reader.refusal()
    references = References(vocabulary, topics, agencies, types, administrators)
    faults = list(islice(references.findings(), FINDINGS_LIMIT))
    read: dict[str, ReadFile] = {}
    agreements = tuple(_agreements(reader, references, faults, before or ReadBefore(), read))
    refusal = reader.refusal()
    if refusal.findings or faults:
        raise refusal if refusal.findings else RulebookRefused(tuple(faults))
    if before is not None:
        before.leave(read)
    return Registry(
        agencies={name: agency_of(name, shape) for name, shape in agencies.items()},
        topics={name: topic_of(name, shape) for name, shape in topics.items()},
        record_types=record_types_of(types),
        agreements=agreements,
        vocabulary=vocabulary_of(vocabulary),
        administrators=administrators,
        administration=None if administration is None else administration_of(administration),
    )


def _agreements(
    reader: _Reader, references: References, faults: list[str], before: ReadBefore, read: dict[str, ReadFile]
) -> Iterator[Agreement]:
    """All agreements, an owner's at a time, since their shapes take many times the memory. Adds to `faults` and `read`."""
    made = Agreements()
    for owner, path in reader.each("agreements"):
        content = reader.content(path)
        known = before.find(path, content)
        if known is None or not references.admits(owner, known.agreements, known.markings):
            shapes = reader.members(path, _AGREEMENTS)
            faults += islice(references.of_agreements(owner, shapes), FINDINGS_LIMIT - len(faults))
            agreements = tuple(made.of(name, owner, shape) for name, shape in shapes.items())
            markings = frozenset(marking for shape in shapes.values() for marking in shape.treatments)
            known = ReadFile(digest_of(content), agreements, markings)
        read[path] = known
        yield from known.agreements


class _Reader:
    """Reads data files by their shape and gathers findings."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files
        self._left = {path for path in files if path.startswith("data/")}
        self.findings: list[str] = []

    def content(self, path: str) -> bytes:
        """A file that is there, as it is; it counts as read."""
        self._left.discard(path)
        return self._files[path]

    def whole(self, path: str, shape: TypeAdapter[_Shape]) -> _Shape | None:
        """A file that is one thing; None, with a finding, if it is missing or not of its shape."""
        found = self._value(path)
        if found is None or self._is_crowded(path, "the file", found[0]):
            return None
        return self._shaped(path, shape, found[0])

    def members(self, path: str, shape: TypeAdapter[dict[str, _Shape]]) -> dict[str, _Shape]:
        """A file of things that have names; of those that are not of their shape there is a finding."""
        found = self._value(path)
        if found is None:
            return {}
        (value,) = found
        if not isinstance(value, dict):
            return self._shaped(path, shape, value) or {}
        members: dict[str, _Shape] = {}
        left = ((name, each) for name, each in value.items() if not self._is_crowded(path, name, each))
        while len(self.findings) < FINDINGS_LIMIT and (some := dict(islice(left, _SLICE))):
            shaped: dict[str, _Shape] | None = self._shaped(path, shape, some)
            members |= shaped or {}
        return members

    def each(self, kind: str) -> Iterator[tuple[str, str]]:
        """The agency and the path of each file data/<kind>/<agency>/data.yaml, until there are enough findings."""
        for path in sorted(self._left):
            parts = path.split("/")
            if len(self.findings) >= FINDINGS_LIMIT:
                return
            if parts[1] != kind or len(parts) != 4:
                continue
            try:
                _NAME.validate_python(parts[2])
            except ValidationError:
                self.findings.append(f"{path}: '{parts[2]}' is no name of an agency; use a-z, 0-9 and '-'")
            yield parts[2], path

    def refusal(self) -> RulebookRefused:
        """All findings, with those about files that nothing has read: these would reach the engine unchecked."""
        if len(self.findings) < FINDINGS_LIMIT:
            unread = (
                f"{path}: is no place for data; see the rulebook's layout" for path in sorted(self._left)
            )
            self.findings += islice(unread, FINDINGS_LIMIT - len(self.findings))
        return RulebookRefused(tuple(self.findings[:FINDINGS_LIMIT]))

    def _value(self, path: str) -> tuple[JsonValue] | None:
        self._left.discard(path)
        if path not in self._files:
            self.findings.append(f"{path}: is missing; a rulebook needs it")
            return None
        try:
            return (parse_yaml(self._files[path]),)
        except DataRefused as error:
            self.findings.append(f"{path}: {error}")
            return None

    def _is_crowded(self, path: str, name: str, value: JsonValue) -> bool:
        """Whether one thing has so many members that their faults alone would fill the memory; then with a finding."""
        if not isinstance(value, dict):
            return False
        largest = max((len(each) for each in value.values() if isinstance(each, dict)), default=0)
        if max(len(value), largest) <= _MEMBERS_LIMIT:
            return False
        self.findings.append(f"{path}: {name[:100]}: has more than {_MEMBERS_LIMIT} members; leave some out")
        return True

    def _shaped(self, path: str, shape: TypeAdapter[_Shape], value: JsonValue) -> _Shape | None:
        try:
            return shape.validate_python(value)
        except ValidationError as error:
            self.findings += (f"{path}: {line}" for line in _lines(error))
            return None


def _lines(error: ValidationError) -> Iterator[str]:
    for fault in faults_of(error):
        place = ".".join(str(part) for part in fault["loc"] if part != "[key]") or "the file"
        yield f"{place}: {'; '.join(what_and_remedy(fault))}"
