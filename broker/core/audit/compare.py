"""An index's file as a whole against the ledger: what the rows of single entries do not show."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

from broker.core.audit.findings import Findings
from broker.core.audit.instance import InstanceCheck
from broker.core.audit.pieces import BLOCK, PieceReader
from broker.core.merkle.hashing import root_of
from broker.ports.audit_index import AuditTables
from broker.ports.ledger_log import LedgerReader

_REMEDY = "make the file again from the entries"
_LEVELS = BLOCK.bit_length() - 1
_CHECKPOINTS_AT_ONCE = 1_000


async def compare_whole(
    reader: LedgerReader,
    tables: AuditTables,
    checked: Sequence[InstanceCheck],
    structure: list[str],
    findings: Findings,
) -> None:
    """Definitions, ranges, checkpoints and subtrees. structure: what AuditTables.structure found."""
    for problem in structure:
        findings.fault("", None, f"the SQLite file is not as it was written: {problem}", _REMEDY)
    if structure:
        return
    extents = await asyncio.to_thread(tables.extents)
    for name in sorted(extents.keys() - {check.instance for check in checked}):
        findings.fault(name, None, "the SQLite file holds an instance that the ledger does not", _REMEDY)
    seen = sum((check.rows for check in checked), Counter[str]())
    for table, total in (await asyncio.to_thread(tables.totals)).items():
        if total != seen[table]:
            what = f"table '{table}' of the SQLite file holds rows of no entry that was compared"
            findings.fault("", None, what, _REMEDY)
    for check in checked:
        name = check.instance
        if extents.get(name) != (check.begin, check.end, check.checkpoints):
            what = "the SQLite file holds another range of entries, or other checkpoints, than the ledger"
            findings.fault(name, None, what, _REMEDY)
            continue
        if await asyncio.to_thread(tables.subtrees, name) != _subtrees(check.blocks):
            findings.fault(name, None, "the SQLite file holds other subtrees than the entries make", _REMEDY)
        await _compare_checkpoints(reader, tables, name, findings)
        if isinstance(reader, PieceReader):
            _compare_bounds(reader, tables, name, findings)


def _subtrees(blocks: dict[int, bytes]) -> dict[tuple[int, int], bytes]:
    """All levels, from the roots of blocks of leaves."""
    found: dict[tuple[int, int], bytes] = {}
    level, nodes = _LEVELS, blocks
    while nodes:
        found |= {(level, number): node for number, node in nodes.items()}
        above = {number // BLOCK for number in nodes}
        complete = {n: [nodes.get(n * BLOCK + k, b"") for k in range(BLOCK)] for n in above}
        nodes = {n: root_of(children) for n, children in complete.items() if all(children)}
        level += _LEVELS
    return found


async def _compare_checkpoints(
    reader: LedgerReader, tables: AuditTables, instance: str, findings: Findings
) -> None:
    number, held = 0, list[tuple[bytes, bytes]]()
    async for stored in reader.checkpoints(instance):
        if not held:
            held = await asyncio.to_thread(tables.checkpoints, instance, number, _CHECKPOINTS_AT_ONCE)
            held.reverse()
        if not held or held.pop() != (stored.note, b"".join(stored.frontier)):
            what = f"checkpoint {number} in the SQLite file is not the ledger's"
            findings.fault(instance, None, what, _REMEDY)
            return
        number += 1


def _compare_bounds(reader: PieceReader, tables: AuditTables, instance: str, findings: Findings) -> None:
    base, tail = reader.base(instance), reader.tail(instance)
    expected = (
        b"".join(base.frontier),
        0 if tail is None else tail.end,
        b"" if tail is None else b"".join(tail.subtrees),
    )
    if tables.bounds(instance) != expected:
        what = "the SQLite file has another beginning or end of the tree than the export"
        findings.fault(instance, None, what, _REMEDY)
