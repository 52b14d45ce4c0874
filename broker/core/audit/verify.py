"""Verifying ledgers: trees, checkpoints, keys, commitments, accounting, and an index's tables against the entries."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from enum import StrEnum
from multiprocessing import get_context
from typing import TypeVar

from broker.core.audit.accounting import Accounting
from broker.core.audit.chunk import RESTORE
from broker.core.audit.compare import compare_whole
from broker.core.audit.findings import Findings
from broker.core.audit.instance import InstanceCheck, Means
from broker.core.audit.trust import Trust
from broker.core.audit.witnessed import read_witnessed
from broker.errors import StorageUnavailable
from broker.model.audit import Finding, ProgressCallback, Severity
from broker.ports.audit_index import AuditTables
from broker.ports.ledger_log import LedgerReader

T = TypeVar("T")

_THRESHOLD = 100_000
"""After how many values that were made and not given back circles of them are looked for."""


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
        """The fault to look at first: of the first instance that has one, that of the least index, if one has a place."""
        faults = [finding for finding in self.findings if finding.severity is Severity.FAULT]
        return min(
            faults, key=lambda f: (not f.instance, f.instance, f.index is None, f.index or 0), default=None
        )

    def summary(self) -> str:
        """One line for people."""
        many = f"{self.entries} entries of {len(self.instances)} instance{'s' * (len(self.instances) != 1)}"
        if self.level is Level.FAULTY:
            faults = sum(finding.severity is Severity.FAULT for finding in self.findings)
            more = " or more" if self.omitted else ""
            return f"faulty: {faults}{more} fault{'s' * (faults != 1)} in {many}"
        if self.level is Level.VERIFIED:
            keys = ", ".join(sorted({instance.key for instance in self.instances}))
            return f"verified against {keys} and witnessed checkpoints: {many}"
        return f"{self.level}: {many}"


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
    pool = None
    if workers > 1:
        pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_collect_rarely)
    thresholds = gc.get_threshold()
    try:
        gc.set_threshold(_THRESHOLD)
        return await _Verify(reader, trust, tables, workers, progress, pool).run()
    except BrokenProcessPool as error:
        raise StorageUnavailable(
            "a process that examines entries ended; give it more memory, or use one worker"
        ) from error
    finally:
        gc.set_threshold(*thresholds)
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)
        if tables is not None:
            tables.close()


def _collect_rarely() -> None:
    """Examining makes millions of values and no circles: looking for those costs up to a tenth of its time."""
    gc.freeze()
    gc.set_threshold(_THRESHOLD)


class _Verify:
    """One verification."""

    def __init__(
        self,
        reader: LedgerReader,
        trust: Trust,
        tables: AuditTables | None,
        workers: int,
        progress: ProgressCallback | None,
        pool: ProcessPoolExecutor | None,
    ) -> None:
        self._pool = pool
        self._findings = Findings()
        self._means = Means(
            reader=reader,
            trust=trust,
            tables=tables,
            findings=self._findings,
            accounting=Accounting(self._findings),
            submit=self._submit,
            ahead=2 * max(1, workers),
            progress=progress,
        )

    async def run(self) -> Verification:
        """All instances, one after the other."""
        means, checked, done = self._means, list[InstanceCheck](), 0
        instances = list(await means.reader.instances())
        witnessed = read_witnessed(means.trust, self._findings)
        structure = None if means.tables is None else self._submit(means.tables.structure)
        for instance in instances:
            check = InstanceCheck(means, instance, witnessed.get(instance, []), done)
            await check.run()
            done = check.done
            checked.append(check)
        for instance in sorted(witnessed.keys() - set(instances)):
            what = "a witness holds a checkpoint of this instance, and the ledger does not have it at all"
            self._findings.fault(instance, None, what, RESTORE)
        for instance in sorted({*means.trust.instances} - {*instances} - witnessed.keys()):
            what = "the exchange has this instance, and the ledger does not have it at all"
            self._findings.fault(instance, None, what, RESTORE)
        await asyncio.to_thread(means.accounting.finish)
        if means.tables is not None and structure is not None:
            await compare_whole(means.reader, means.tables, checked, await structure, self._findings)
        return self._result(checked, done)

    def _result(self, checked: list[InstanceCheck], entries: int) -> Verification:
        results = tuple(self._instance(check) for check in checked)
        findings = self._findings
        if findings.faulty:
            level = Level.FAULTY
        elif results and all(result.level is Level.VERIFIED for result in results):
            level = Level.VERIFIED
        else:
            level = Level.CONSISTENT
        return Verification(level, results, tuple(findings.kept), findings.omitted, entries)

    def _instance(self, check: InstanceCheck) -> InstanceVerified:
        level = Level.CONSISTENT
        if check.instance in self._findings.faulty:
            level = Level.FAULTY
        elif self._means.trust.keys and check.keys.signer and check.witnessed_size is not None:
            level = Level.VERIFIED
        return InstanceVerified(
            instance=check.instance,
            level=level,
            begin=check.begin,
            end=check.end,
            root=check.root,
            checkpoints=check.checkpoints,
            signed=check.keys.signed,
            key=check.keys.signer if self._means.trust.keys else "",
            witnessed=check.witnessed_size,
        )

    def _submit(self, work: Callable[[], T], /) -> Awaitable[T]:
        """Begin work that blocks, in another process if there are some."""
        if self._pool is None:
            return asyncio.ensure_future(asyncio.to_thread(work))
        return asyncio.get_running_loop().run_in_executor(self._pool, work)
