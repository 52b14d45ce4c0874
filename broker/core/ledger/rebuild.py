"""At start: reads an instance's whole ledger, checks it, and builds its tree again."""

from __future__ import annotations

from dataclasses import dataclass

from broker.core.ledger.leaf import EntryInvalid, check, read_leaf, read_openings
from broker.core.merkle.hashing import leaf_hash
from broker.core.merkle.tree import CompactTree
from broker.errors import LedgerRefused
from broker.model.ledger import EncodedEntry, ReadPoint
from broker.ports.ledger_log import LedgerReader


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What was found: the tree over all entries."""

    tree: CompactTree


async def rebuild(reader: LedgerReader, instance: str) -> Rebuilt:
    """Raises LedgerRefused with the place of the first fault, StorageUnavailable."""
    tree = CompactTree()
    async for page in reader.read(instance, ReadPoint()):
        for entry in page.entries:
            _check(entry, instance, tree.size)
            tree.append(leaf_hash(entry.leaf))
    return Rebuilt(tree)


def _check(entry: EncodedEntry, instance: str, index: int) -> None:
    try:
        leaf = read_leaf(entry.leaf)
        if (leaf.instance, leaf.index) != (instance, index):
            raise EntryInvalid(f"entry {leaf.index} of instance {leaf.instance} stands there")
        if entry.openings:
            check(leaf, read_openings(entry.openings))
    except EntryInvalid as error:
        remedy = "restore the ledger from a copy"
        raise LedgerRefused((f"instance {instance}, entry {index}: {error}; {remedy}",)) from error
