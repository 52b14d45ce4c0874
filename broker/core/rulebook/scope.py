"""What of a rulebook somebody may see, and what of it somebody may propose to change.

An agency's administrators see their agency's own part and the exchange's public rules; what others grant each other is none
of their business, nor is whether there is any such thing. So what they are shown is computed from the files that they may
see, and from nothing else: a revision's id is for them the id of those files, and two that differ in other files are one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from broker.core.rulebook.areas import key_owners
from broker.core.rulebook.findings import Finding, Severity
from broker.core.rulebook.proposals import Check, Pair, Proposal, SaidOf
from broker.errors import RulebookRefused
from broker.model.registry import Registry
from broker.model.rulebook import Revision, revision_id

_PUBLIC = frozenset({"manifest.yaml", "capabilities.json", "data/administration/data.yaml"})
_PUBLIC_FOLDERS = ("schemas/", "data/vocabulary/")
_OWN_FOLDERS = (
    "agencies/{}/",
    "cases/{}/",
    "data/agreements/{}/",
    "data/record_types/{}/",
)
_REGISTRATION = ("data/agencies/{}/", "data/administrators/{}/")
_KEYS = re.compile(rb"keys/[a-z0-9._/-]+\.jwks\.json")
_FINDINGS_MOST = 100

WHOLE = "rulebook"
"""The `file` of a finding that is about no file of it."""

HIDDEN = Finding(
    WHOLE,
    None,
    "the whole rulebook, with this change, does not pass a check that is not yours to see",
    "ask the exchange's administrators",
)


@dataclass(frozen=True, slots=True)
class View:
    """Whose eyes: an agency's administrators', or those of somebody who sees all (`agency` None)."""

    agency: str | None = None

    def sees(self, path: str, keys: frozenset[str] = frozenset()) -> bool:
        """Whether the file at `path` is shown; keys: the files of keys that the agency's registration names."""
        if self.agency is None:
            return True
        is_rule = path.startswith("entente/") and path.endswith(".rego") and not path.endswith("_test.rego")
        public = path in _PUBLIC or is_rule or path.startswith(_PUBLIC_FOLDERS)
        own = path.startswith(_registration(self.agency)) or is_own(self.agency, path)
        return public or own or path in keys

    def files(self, revision: Revision) -> Mapping[str, bytes]:
        """What is shown of a revision's files."""
        if self.agency is None:
            return revision.files
        keys = _named_keys(revision.files, self.agency)
        return {path: content for path, content in revision.files.items() if self.sees(path, keys)}

    def part(self, revision: Revision) -> Revision:
        """The revision that consists of what is shown; for who sees all, the revision itself."""
        if self.agency is None:
            return revision
        files = self.files(revision)
        return Revision(revision_id(files), files, revision.time_dependent)

    def concerns(self, proposal: Proposal) -> bool:
        """Whether a proposal is shown at all: one's agency made it, or it is about one's agency."""
        own = {owner for _, owner in proposal.areas} | {proposal.author[0]}
        return self.agency is None or self.agency in own

    def areas(self, proposal: Proposal) -> tuple[Pair, ...]:
        """What is shown of what a proposal is about."""
        return tuple(area for area in proposal.areas if self.agency in (None, area[1]))

    def findings(self, check: Check) -> Iterator[Finding]:
        """What is shown of what was found: all errors of others' files are told as one."""
        hidden = False
        for each in check.findings:
            if self.agency is None:
                yield each.finding
            elif _is_for(self.agency, each):
                yield _told(each.finding, each.told)
            else:
                hidden = hidden or each.finding.severity is Severity.ERROR
        if hidden or (self.agency is not None and not check.accepted and check.cut):
            yield HIDDEN


def _is_for(agency: str, said: SaidOf) -> bool:
    """Whether it is about the agency's own files, or about the check itself, which is told to everybody."""
    file = said.finding.file
    own = is_own(agency, file) or is_own(agency, f"{file}/") or file.startswith(_registration(agency))
    return own or (file == WHOLE and said.told is not None)


def _told(finding: Finding, told: str | None) -> Finding:
    if told is None:
        return finding
    return Finding(finding.file, finding.line, told, finding.remedy, finding.severity)


def is_own(agency: str, path: str) -> bool:
    """Whether the path lies in a folder that is the agency's own."""
    return path.startswith(own_folders(agency))


def _registration(agency: str) -> tuple[str, ...]:
    return tuple(each.format(agency) for each in _REGISTRATION)


def own_folders(agency: str) -> tuple[str, ...]:
    """The folders of an agency's own part, each with "/" at its end."""
    return tuple(each.format(agency) for each in _OWN_FOLDERS)


def own_keys(registry: Registry, agency: str) -> frozenset[str]:
    """The files of keys that this agency's registration names, and no other's."""
    return frozenset(path for path, owners in key_owners(registry).items() if owners == {agency})


def merged(
    present: Revision, sent: Mapping[str, bytes], agency: str, keys: frozenset[str]
) -> Mapping[str, bytes]:
    """The present revision's files with the agency's own part as it was sent; keys: as of `own_keys`.

    Raises RulebookRefused for each other file that is not exactly what the agency is shown of it. A hidden file and a
    missing one are refused alike.
    """
    shown = View(agency).files(present)
    own = _own_test(agency, keys)
    findings = [
        f"{path}: is not {agency}'s to change; take it as it was pulled, or leave it out"
        for path in sorted(sent)
        if not own(path) and sent[path] != shown.get(path)
    ]
    if findings:
        raise RulebookRefused(tuple(findings[:_FINDINGS_MOST]))
    kept = {path: content for path, content in present.files.items() if not own(path)}
    return {**kept, **{path: content for path, content in sent.items() if own(path)}}


def _own_test(agency: str, keys: frozenset[str]) -> Callable[[str], bool]:
    """Whether a path is in the agency's own part."""
    folders = own_folders(agency)
    return lambda path: path.startswith(folders) or path in keys


def _named_keys(files: Mapping[str, bytes], agency: str) -> frozenset[str]:
    """Every file of keys that the agency's registration mentions: public keys, so that no reading is too generous."""
    registration = files.get(f"data/agencies/{agency}/data.yaml", b"")
    return frozenset(path.decode() for path in _KEYS.findall(registration)) & files.keys()
