"""At start: reads an instance's whole ledger, checks it, and builds its tree again.

Every entry has to be whole and in its place, and every stored checkpoint has to be signed and to be that of the tree at its
size. What witnesses hold is compared afterwards, when the tree is known.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from broker.core.checkpoint.note import NoteInvalid, VerifierKey
from broker.core.ledger.leaf import EntryInvalid, Leaf, check, open_entry, read_leaf, read_openings
from broker.core.ledger.stored_checkpoints import CheckpointQueue, OpenedCheckpoint
from broker.core.merkle.hashing import leaf_hash
from broker.core.merkle.tree import CompactTree
from broker.errors import LedgerRefused
from broker.model.ledger import EncodedEntry, JsonValue, ReadPoint, StoredCheckpoint
from broker.ports.ledger_log import LedgerReader

log = logging.getLogger(__name__)

_KINDS_WITH_KEYS = ("configuration", "key_rotated")


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What was found.

    tree: over all entries. base: the tree where those entries begin that `tree` was built from; empty unless retention took
    the first ones. newest: the stored checkpoint of the largest size. key: the signing key as the entries name it last.
    rotated_from: the key before, while no stored checkpoint covers the entry of the change.
    """

    tree: CompactTree
    base: CompactTree
    newest: StoredCheckpoint | None
    newest_size: int
    key: VerifierKey | None
    rotated_from: VerifierKey | None


async def rebuild(
    reader: LedgerReader,
    instance: str,
    *,
    origin: str,
    keys: Sequence[VerifierKey],
    retention: bool = False,
) -> Rebuilt:
    """Raises LedgerRefused with the place of the first fault, StorageUnavailable.

    keys: all that ever signed; their names do not count. retention: whether it may have taken the first entries, or all.
    """
    checkpoints = CheckpointQueue(reader.checkpoints(instance), instance, origin, keys)
    work = _Rebuild(instance, checkpoints, retention=retention)
    async for page in reader.read(instance, ReadPoint()):
        for entry in page.entries:
            leaf = work.check(entry)
            if work.tree is None:
                await work.begin(leaf.index)
            if work.add(leaf, entry):
                await work.compare()
    if work.tree is None:
        await work.begin_after_all()
    return await work.finish()


class _Rebuild:
    """The tree as it grows; None until the first entry says where it begins."""

    def __init__(self, instance: str, checkpoints: CheckpointQueue, *, retention: bool) -> None:
        self._instance = instance
        self._retention = retention
        self._checkpoints = checkpoints
        self.tree: CompactTree | None = None
        self._base = CompactTree()
        self._index: int | None = None
        self._epoch = 0
        self._due = 0
        self._newest: OpenedCheckpoint | None = None
        self._key: VerifierKey | None = None
        self._rotation: tuple[int, VerifierKey] | None = None

    def check(self, entry: EncodedEntry) -> Leaf:
        """Whether the entry is whole, and the one that follows."""
        try:
            leaf = read_leaf(entry.leaf)
            if leaf.instance != self._instance:
                raise EntryInvalid(f"it is of the instance {leaf.instance}")
            if self._index is not None and leaf.index != self._index:
                raise EntryInvalid(f"entry {leaf.index} stands in its place")
            if leaf.epoch < self._epoch:
                raise EntryInvalid(f"it is of epoch {leaf.epoch} and follows one of epoch {self._epoch}")
            if entry.openings:
                check(leaf, read_openings(entry.openings))
                if leaf.kind in _KINDS_WITH_KEYS:
                    self._learn_keys(leaf, entry)
        except EntryInvalid as error:
            raise self._refused(self._index or 0, str(error)) from error
        self._index, self._epoch = leaf.index + 1, leaf.epoch
        return leaf

    def add(self, leaf: Leaf, entry: EncodedEntry) -> bool:
        """Let the tree grow by an entry; whether a checkpoint is due. Entries before the tree's beginning are left out."""
        if self.tree is None or leaf.index < self.tree.size:
            return False
        self.tree.append(leaf_hash(entry.leaf))
        return self.tree.size == self._due

    async def begin(self, index: int) -> None:
        """The first entry that is kept has this index: the tree begins there if it is 0, else with a checkpoint."""
        if index == 0:
            self.tree = CompactTree()
            await self.compare()
            return
        if not self._retention:
            raise self._refused(0, f"the ledger begins with entry {index}, and no retention is configured")
        while (found := await self._checkpoints.peek()) is not None and found.size < index:
            self._checkpoints.drop()
        if found is None:
            raise self._refused(index - 1, "it is missing, and no checkpoint leads on from there")
        await self._start_from(found)

    async def begin_after_all(self) -> None:
        """There is no entry at all: the tree begins with the largest checkpoint, if retention may have taken them."""
        last: OpenedCheckpoint | None = None
        while (found := await self._checkpoints.peek()) is not None:
            if found.size and not self._retention:
                raise self._refused(0, f"it is missing, and a checkpoint covers {found.size} entries")
            last = found
            self._checkpoints.drop()
        if last is None:
            self.tree = CompactTree()
        else:
            await self._start_from(last)

    async def compare(self) -> None:
        """With all checkpoints of the tree's present size; those of smaller ones came too late to be compared."""
        tree = self.tree or CompactTree()
        while (found := await self._checkpoints.peek()) is not None and found.size <= tree.size:
            self._checkpoints.drop()
            if found.size < tree.size:
                log.warning(
                    "instance %s: a checkpoint of size %d was not compared", self._instance, found.size
                )
                continue
            self._match(tree, found)
        self._due = -1 if found is None else found.size

    async def finish(self) -> Rebuilt:
        """After the last entry."""
        tree = self.tree or CompactTree()
        beyond = await self._checkpoints.peek()
        if beyond is not None:
            raise self._refused(tree.size, f"it is missing, and a checkpoint covers {beyond.size} entries")
        newest, rotation = self._newest, self._rotation
        size = 0 if newest is None else newest.size
        return Rebuilt(
            tree=tree,
            base=self._base,
            newest=None if newest is None else newest.stored,
            newest_size=size,
            key=self._key,
            rotated_from=None if rotation is None or rotation[0] < size else rotation[1],
        )

    async def _start_from(self, checkpoint: OpenedCheckpoint) -> None:
        try:
            self.tree = CompactTree(checkpoint.size, checkpoint.stored.frontier)
        except ValueError as error:
            raise self._refused(
                checkpoint.size - 1, f"its checkpoint cannot be gone on from: {error}"
            ) from error
        self._match(self.tree, checkpoint)
        self._base = self.tree.copy()
        log.info("instance %s: the tree goes on from checkpoint %d", self._instance, checkpoint.size)
        await self.compare()

    def _match(self, tree: CompactTree, checkpoint: OpenedCheckpoint) -> None:
        if checkpoint.root != tree.root() or checkpoint.stored.frontier != tree.frontier:
            size = checkpoint.size
            raise self._refused(size - 1, f"the tree up to it is not that of the checkpoint of size {size}")
        self._newest = checkpoint

    def _learn_keys(self, leaf: Leaf, entry: EncodedEntry) -> None:
        _, found = open_entry(entry)
        if leaf.kind == "configuration":
            self._key = _key_in(found.body, "start", "ledger_key") or self._key
            return
        old, new = (_key_in(found.body, "change", which, "key") for which in ("from", "to"))
        change = found.body.get("change")
        ours = isinstance(change, dict) and change.get("use") == "ledger"
        if ours and old is not None and new is not None:
            self._key, self._rotation = new, (leaf.index, old)

    def _refused(self, index: int, what: str) -> LedgerRefused:
        return LedgerRefused(
            (f"instance {self._instance}, entry {index}: {what}; restore the ledger from a whole copy",)
        )


def _key_in(body: object, *path: str) -> VerifierKey | None:
    """The public key that stands there in a body, or None."""
    value: object | JsonValue = body
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    try:
        return VerifierKey.parse(value) if isinstance(value, str) else None
    except NoteInvalid:
        return None
