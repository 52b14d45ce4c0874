"""Verifying one instance's ledger: its pieces in order, the tree that they make, and the checkpoints of that tree."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

from broker.core.audit.accounting import Accounting
from broker.core.audit.checkpoints import CheckpointQueue, Opened, Signatures
from broker.core.audit.chunk import RESTORE, Chunk
from broker.core.audit.examine import Task, examine
from broker.core.audit.findings import Findings
from broker.core.audit.growth import Growth
from broker.core.audit.keychain import KeyChain
from broker.core.audit.pieces import Piece, PieceReader, base_of, pieces_of
from broker.core.audit.segments import Segment
from broker.core.audit.trust import Trust
from broker.core.audit.witnessed import Witnessed
from broker.core.ledger.signing import origin_of
from broker.core.merkle.tree import CompactTree
from broker.errors import LedgerRefused
from broker.model.audit import Progress, ProgressCallback
from broker.model.ledger import EncodedEntry
from broker.ports.audit_index import AuditTables
from broker.ports.ledger_log import LedgerReader

T = TypeVar("T")

_NOTES_HERE = 8
"""Notes whose signatures are checked at once rather than in another process."""


class Submit(Protocol):
    """Begins work that blocks, here or in another process."""

    def __call__(self, work: Callable[[], T], /) -> Awaitable[T]:
        """What the work returns, or raises."""


@dataclass(frozen=True, slots=True)
class Means:
    """What all instances of one verification share. ahead: pieces that may be examined at once."""

    reader: LedgerReader
    trust: Trust
    tables: AuditTables | None
    findings: Findings
    accounting: Accounting
    submit: Submit
    ahead: int
    progress: ProgressCallback | None


@dataclass(frozen=True, slots=True)
class _Due:
    """A piece that is being examined, and the checkpoints of the trees that end in it."""

    chunk: Awaitable[Chunk]
    checkpoints: list[Opened]


class InstanceCheck:
    """`run` does it. begin, end: the entries that were there; done: entries of all instances so far."""

    def __init__(self, means: Means, instance: str, witnessed: list[Witnessed], done: int) -> None:
        self.instance = instance
        self.done = done
        self.begin = self.end = 0
        self.witnessed_size: int | None = None
        self.keys = KeyChain(instance, means.trust, means.findings)
        self.blocks: dict[int, bytes] = {}
        self.rows: Counter[str] = Counter()
        self._means = means
        self._witnessed = witnessed
        self._queue = CheckpointQueue(means.reader.checkpoints(instance), instance, means.findings)
        self._growth = Growth(instance, means.findings)
        self._wanted = frozenset(one.opened.checkpoint.size for one in witnessed)
        self._cut = False
        self._tail: Segment | None = None
        self._count: int | None = None
        self._origin: str | None = None

    @property
    def checkpoints(self) -> int:
        """How many are stored."""
        return self._queue.count

    @property
    def root(self) -> str:
        """That of the tree of all entries, hexadecimal; "" without entries."""
        return self._growth.entries_root

    async def run(self) -> None:
        """Examine all pieces, a few at once, and join what they come to in order."""
        due: deque[_Due] = deque()
        begun = False
        async for piece in self._pieces():
            if not begun:
                await self._begin(piece)
                begun = True
            opened = await self._queue.take(piece.begin + piece.count)
            sizes = {one.checkpoint.size for one in opened} | self._wanted | {self._growth.base_size}
            task = Task(piece, tuple(sorted(sizes)), self._means.tables)
            due.append(_Due(self._means.submit(partial(examine, task)), opened))
            if len(due) > self._means.ahead:
                await self._join(due.popleft())
        while due:
            await self._join(due.popleft())
        await self._finish()

    def _pieces(self) -> AsyncIterator[Piece]:
        reader = self._means.reader
        if isinstance(reader, PieceReader):
            self._tail, self._cut = reader.tail(self.instance), reader.is_cut(self.instance)
            self._count = reader.count(self.instance)
            return _each(reader, self.instance)
        return pieces_of(reader, self.instance)

    async def _begin(self, piece: Piece) -> None:
        """The tree before the first entry, as far as it can be known."""
        self.begin = self.end = piece.begin
        reader, findings = self._means.reader, self._means.findings
        base: CompactTree | None
        if isinstance(reader, PieceReader):
            base = reader.base(self.instance)
        else:
            base = await self._base(EncodedEntry(*piece.lines()[0]))
            if piece.begin and base is not None:
                what = (
                    f"the entries before it are gone; those before {base.size} are in no tree that is known"
                )
                findings.remark(
                    self.instance, piece.begin, what, "ask the operator for the ledger's retention"
                )
        if base is not None:
            self._growth.begin(base, self._wanted)
        self._means.accounting.begin(from_start=piece.begin == 0, to_end=not self._cut)

    async def _base(self, first: EncodedEntry) -> CompactTree | None:
        try:
            return await base_of(self._means.reader, self.instance, first)
        except LedgerRefused as refused:
            self._fault(None, refused.findings[0])
            return None

    async def _join(self, due: _Due) -> None:
        chunk = await due.chunk
        findings = self._means.findings
        self._growth.place(chunk)
        for finding in chunk.findings:
            findings.add(finding)
        findings.omitted += chunk.omitted
        self._growth.add(chunk)
        self.blocks |= chunk.blocks
        self.rows.update(chunk.rows)
        self._means.accounting.add(chunk)
        await self._judge(due.checkpoints, chunk)
        self.end = chunk.begin + chunk.count
        self.done += chunk.count
        if self._means.progress is not None:
            self._means.progress(Progress("verifying", self.done))

    async def _judge(self, opened: list[Opened], chunk: Chunk | None) -> None:
        """Checkpoints against the tree, and their signatures against the keys that are known at their sizes."""
        coming = deque([] if chunk is None else chunk.keys)
        notes = [one.note for one in opened]
        work = Signatures(notes, self.keys.candidates(coming), self._means.trust.witnesses)
        signed = work.check() if len(notes) <= _NOTES_HERE else await self._means.submit(work.check)
        for one, worth in zip(opened, signed, strict=True):
            while coming and coming[0][0] < one.checkpoint.size:
                self.keys.learn(*coming.popleft())
            self._check_origin(one)
            self._growth.compare(one)
            self.keys.judge(one, worth)
        for learned in coming:
            self.keys.learn(*learned)

    def _check_origin(self, opened: Opened) -> None:
        size, origin = opened.checkpoint.size, opened.checkpoint.origin
        if self._origin is None:
            exchange = self.keys.exchange
            self._origin = origin if exchange is None else origin_of(exchange, self.instance)
        if origin != self._origin or not origin.endswith(f"/{self.instance}"):
            self._fault(max(0, size - 1), f"the checkpoint of size {size} is of the origin {origin[:80]}")

    async def _finish(self) -> None:
        if self._count is not None and self.end - self.begin != self._count:
            what = f"{self._count} entries were exported, and {self.end - self.begin} are here"
            self._fault(self.end, what)
        if self._tail is not None and self._tail.begin == self.end:
            self._growth.add_tail(self._tail)
        await self._check_beyond()
        self._growth.finish()
        self.keys.finish()
        self._check_witnessed()
        if self.end > max(self.keys.signed, self.begin):
            what = "from here on no signed checkpoint covers the entries yet"
            remedy = "verify again after the next checkpoint"
            self._means.findings.remark(self.instance, max(self.keys.signed, self.begin), what, remedy)

    async def _check_beyond(self) -> None:
        """Checkpoints of trees that end after the last entry: true of an export that was cut, else entries are missing."""
        beyond = await self._queue.take(None)
        if self._cut:  # the key may have changed in what was left out
            self.keys.learn(self.end, "erased", ())
        known = [one for one in beyond if one.checkpoint.size in self._growth.roots]
        await self._judge(known, None)
        lost = [one for one in beyond if one.checkpoint.size not in self._growth.roots]
        if lost and not self._cut:
            size = lost[-1].checkpoint.size
            self._fault(
                self.end, f"a checkpoint covers {size} entries, and here they end: entries are missing"
            )

    def _check_witnessed(self) -> None:
        """What witnesses hold must be contained, or the ledger was rolled back or written anew."""
        findings = self._means.findings
        for one in self._witnessed:
            size, root = one.opened.checkpoint.size, self._growth.roots.get(one.opened.checkpoint.size)
            work = Signatures([one.opened.note], self.keys.candidates(()), self._means.trust.witnesses)
            (signed,) = work.check()
            if not self.keys.is_known(signed):
                why = signed.fault or "no key that counts has signed it"
                findings.fault(self.instance, None, f"the witnessed checkpoint of size {size}: {why}")
            elif root is None and (size < self._growth.base_size or self._cut):
                what = f"the witnessed checkpoint of size {size} lies outside of what was exported or is kept"
                findings.remark(self.instance, None, what, "verify the whole ledger against it")
            elif root is None:
                what = f"a witness holds a checkpoint of size {size}: the ledger was rolled back, entries are missing"
                self._fault(self.end, what)
            elif root != one.opened.checkpoint.root:
                what = f"the tree is not that of the witnessed checkpoint of size {size}: the ledger was written anew"
                self._fault(max(0, size - 1), what)
            else:
                self.witnessed_size = max(size, self.witnessed_size or 0)

    def _fault(self, index: int | None, what: str) -> None:
        self._means.findings.fault(self.instance, index, what, RESTORE)


async def _each(reader: PieceReader, instance: str) -> AsyncIterator[Piece]:
    for piece in reader.pieces(instance):
        yield piece
