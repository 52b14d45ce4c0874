"""Verifying ledgers: trees, checkpoints, keys, commitments, accounting, and an index's tables against the entries."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from broker.core.audit.trust import Trust
from broker.model.audit import Finding, ProgressCallback, Severity
from broker.ports.audit_index import AuditTables
from broker.ports.ledger_log import LedgerReader


class Level(StrEnum):
    """What a verification shows. Without a key and a witnessed checkpoint from outside it is CONSISTENT at best."""

    VERIFIED = "verified"
    CONSISTENT = "internally consistent only"
    FAULTY = "faulty"


@dataclass(frozen=True, slots=True)
class InstanceVerified:
    """One instance: the entries that were there, from `begin` to before `end`, and how far signed checkpoints reach.

    key: the vkey of the trusted key that signed the newest checkpoint, "" without one. witnessed: the size of the largest
    witnessed checkpoint that the ledger holds, None without one. root: that of the tree of `end` entries, hexadecimal.
    """

    instance: str
    level: Level
    begin: int
    end: int
    root: str
    checkpoints: int
    signed: int
    key: str
    witnessed: int | None


@dataclass(frozen=True, slots=True)
class Verification:
    """What was found. findings: the first ones, in the order of discovery; omitted: how many more there were."""

    level: Level
    instances: tuple[InstanceVerified, ...]
    findings: tuple[Finding, ...]
    omitted: int
    entries: int

    @property
    def first_fault(self) -> Finding | None:
        """The fault to look at first: of the first instance that has one, that of the least index."""
        faults = [finding for finding in self.findings if finding.severity is Severity.FAULT]
        return min(faults, key=lambda f: (f.instance, f.index if f.index is not None else -1), default=None)

    def summary(self) -> str:
        """One line for people."""
        raise NotImplementedError


async def verify(
    reader: LedgerReader,
    trust: Trust,
    *,
    tables: AuditTables | None = None,
    workers: int = 1,
    progress: ProgressCallback | None = None,
) -> Verification:
    """Verify all instances of a ledger.

    tables: an index whose tables are compared with the entries. workers: processes that hash and account beside this one;
    1 does all of it here. Raises StorageUnavailable if the ledger cannot be read; what is wrong with it is a finding.
    """
    raise NotImplementedError
