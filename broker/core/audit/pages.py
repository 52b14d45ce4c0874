"""Pages of answers: tokens that say where the next one begins, and the entries of a page read from the ledger."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import cast

import orjson

from broker.core.merkle.hashing import leaf_hash
from broker.errors import EntenteError, LedgerRefused, Reason
from broker.model.audit import EntryRow
from broker.model.ledger import EncodedEntry, ReadEntries
from broker.ports.audit_index import AuditIndex
from broker.ports.ledger_log import LedgerReader

_QUESTION_BYTES = 9
_TOKEN_CHARACTERS = 200

INDEX_MOST = 2**40 - 1
"""More entries than an instance will ever write, and few enough for every store."""

SKIPPED = 1_000
"""Entries between two wanted ones that are read past; beyond it reading begins again nearer to the next."""


def page_token(question: Sequence[object], instance: str, number: int) -> str:
    """Where the next page of this question begins. It holds nothing that the page did not show, and is not secret."""
    return base64.urlsafe_b64encode(orjson.dumps([_digest(question), instance, number])).decode()


def page_start(question: Sequence[object], token: str) -> tuple[str, int]:
    """Instance and number as in `page_token`; ("", 0) for the first page. Raises EntenteError REQUEST_INVALID."""
    if not token:
        return "", 0
    try:
        if len(token) > _TOKEN_CHARACTERS:
            raise ValueError
        asked, instance, number = orjson.loads(base64.urlsafe_b64decode(token.encode("ascii")))
        if asked != _digest(question) or type(instance) is not str or type(number) is not int:
            raise ValueError
        if not 0 <= number <= INDEX_MOST:
            raise ValueError
    except (ValueError, TypeError):
        raise EntenteError(Reason.REQUEST_INVALID, "page_token is not one of this question's") from None
    return instance, number


async def read_rows(reader: LedgerReader, index: AuditIndex, rows: Sequence[EntryRow]) -> list[EncodedEntry]:
    """The entries of these rows, which are of one instance and ordered by index, each checked against the index.

    Raises LedgerRefused if one is not what was indexed, StorageUnavailable.
    """
    found: list[EncodedEntry] = []
    while len(found) < len(rows):
        before = len(found)
        await _read_near(reader, index, rows, found)
        if len(found) == before:
            wanted = rows[before]
            raise LedgerRefused(
                (f"{wanted.instance} entry {wanted.index}: is not there any more; verify the ledger",)
            )
    return found


async def _read_near(
    reader: LedgerReader, index: AuditIndex, rows: Sequence[EntryRow], found: list[EncodedEntry]
) -> None:
    """Add entries from the first one that is missing on, until the next lies far away."""
    before = len(found)
    first = rows[before]
    point = await index.point(first.instance, first.index)
    reading = cast(AsyncGenerator[ReadEntries, None], reader.read(first.instance, point))
    async with aclosing(reading):
        async for part in reading:
            at = part.next.index - len(part.entries)
            while len(found) < len(rows) and rows[len(found)].index < part.next.index:
                wanted = rows[len(found)]
                if wanted.index < at:
                    return
                found.append(_checked(wanted, part.entries[wanted.index - at]))
            if len(found) == len(rows):
                return
            # Points lie wherever the index put them: the first that is wanted may be far behind one.
            if len(found) > before and rows[len(found)].index > part.next.index + SKIPPED:
                return


def _checked(row: EntryRow, entry: EncodedEntry) -> EncodedEntry:
    if leaf_hash(entry.leaf) != row.leaf_hash:
        raise LedgerRefused(
            (f"{row.instance} entry {row.index}: is not what was read before; verify the ledger",)
        )
    return entry


def _digest(question: Sequence[object]) -> str:
    digest = hashlib.sha256(orjson.dumps(list(question), default=str)).digest()
    return base64.urlsafe_b64encode(digest[:_QUESTION_BYTES]).decode()
