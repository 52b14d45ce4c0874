"""One instance's tree as its pieces are joined: entries in their places, epochs in order, and the roots of checkpoints."""

from __future__ import annotations

from broker.core.audit.checkpoints import Opened
from broker.core.audit.chunk import ASK, RESTORE, Chunk
from broker.core.audit.findings import Findings
from broker.core.audit.segments import Segment, extend
from broker.core.merkle.tree import CompactTree


class Growth:
    """Takes chunks in order. roots: by size those of the trees that somebody asked for, as far as they are known."""

    def __init__(self, instance: str, findings: Findings) -> None:
        self._instance = instance
        self._findings = findings
        self._tree: CompactTree | None = None
        self._wanted: frozenset[int] = frozenset()
        self._shift = 0
        self._epoch = 0
        self._broken = False
        self._matched = 0
        self._suspects: list[int] = []
        self._erased: tuple[int, int] | None = None
        self.base_size = 0
        self.roots: dict[int, bytes] = {}
        self.entries_root = ""

    def begin(self, base: CompactTree, wanted: frozenset[int]) -> None:
        """The tree to go on from; wanted: sizes whose roots are kept to the end. Without it no tree is built."""
        self._tree = base
        self.base_size = self._matched = base.size
        self._wanted = wanted
        self.roots = {base.size: base.root()}

    def place(self, chunk: Chunk) -> None:
        """Whether the next stretch's entries stand in their places."""
        self._suspects = [index for index in self._suspects if index >= self._matched]
        self._check_places(chunk)
        self._check_epochs(chunk)

    def add(self, chunk: Chunk) -> None:
        """Let the tree grow by the stretch."""
        self._suspects += [finding.index for finding in chunk.findings if finding.index is not None]
        if chunk.erased:
            first, count = self._erased or (chunk.erased[0][0], 0)
            self._erased = first, count + sum(end - begin for begin, end in chunk.erased)
        self.roots = {size: root for size, root in self.roots.items() if size in self._wanted}
        for segment in chunk.segments:
            self._extend(segment)
        if self._tree is not None:
            self.entries_root = self._tree.root().hex()

    def add_tail(self, tail: Segment) -> None:
        """What follows the last entry, without the entries."""
        self._extend(tail)

    def compare(self, opened: Opened) -> None:
        """A stored checkpoint with the tree of its size; of several that differ only the first is told."""
        size = opened.checkpoint.size
        root = self.roots.get(size)
        if root is None or self._broken:
            return
        if root != opened.checkpoint.root:
            self._broken = True
            self._tell(size)
            return
        self._matched = size
        if opened.frontier and not self._leads_to(opened):
            what = f"the frontier stored with the checkpoint of size {size} is not that of its tree"
            self._findings.fault(self._instance, max(0, size - 1), what, RESTORE)

    def finish(self) -> None:
        """After the last chunk."""
        if self._erased is not None:
            first, count = self._erased
            what = f"{count} entries from here on have no openings (or false ones): what they said cannot be accounted for"
            self._findings.remark(self._instance, first, what, "find out who erased them, and why")

    def _tell(self, size: int) -> None:
        """Where the tree differs: at an entry that is known to be wrong, else anywhere since the last one that was right."""
        low = self._matched
        known = [index for index in self._suspects if low <= index < size]
        if known:
            low, which = min(known), f"entry {min(known)} was changed"
        elif size - low == 1:
            which = f"entry {low} was changed, or the checkpoint was"
        else:
            which = f"one of the entries {low} to {size - 1} was changed, or the checkpoint was"
        what = f"the tree is not that of the checkpoint of size {size}: {which}"
        self._findings.fault(self._instance, low, what, RESTORE)

    def _leads_to(self, opened: Opened) -> bool:
        try:
            return CompactTree(opened.checkpoint.size, opened.frontier).root() == opened.checkpoint.root
        except ValueError:
            return False

    def _extend(self, segment: Segment) -> None:
        tree = self._tree
        if tree is None or segment.end <= tree.size:  # before the tree that could be begun with
            return
        try:
            self._tree = extend(tree, segment)
        except ValueError:
            self._tree = None
            what = f"the entries do not continue the tree of size {tree.size} that they are said to"
            self._findings.fault(self._instance, segment.begin, what, RESTORE)
        else:
            self.roots[segment.end] = self._tree.root()

    def _check_places(self, chunk: Chunk) -> None:
        """Entries say their index themselves: where it leaps, some are missing, doubled or in another order."""
        shift = 0
        for index, found in chunk.misplaced:
            if found not in (shift, self._shift):
                what = f"entry {index + found} stands where entry {index} should: some are missing, doubled or in disorder"
                self._findings.fault(self._instance, index, what, RESTORE)
                self._suspects.append(index)
            shift = self._shift = found
        if not chunk.misplaced and self._shift and chunk.count:
            self._shift = 0

    def _check_epochs(self, chunk: Chunk) -> None:
        for index, epoch in chunk.epochs:
            if epoch < self._epoch:
                what = f"an entry of epoch {epoch} follows one of epoch {self._epoch}, whose writer had replaced it"
                self._findings.fault(self._instance, index, what, ASK)
                self._suspects.append(index)
            self._epoch = max(self._epoch, epoch)
