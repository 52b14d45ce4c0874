"""What the ledger of a broker on the embedded stores holds, read as its documentation says, while the broker runs or not."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from broker.core.ledger.leaf import open_entry
from broker.model.ledger import EncodedEntry, LedgerEntry


def ledger_entries(exchange: Path, kind: str | None = None) -> list[LedgerEntry]:
    """All entries of an exchange's directory, or those of one kind, in order; each has to be whole."""
    database = f"file:{exchange}/data/ledger.db?mode=ro"
    with closing(sqlite3.connect(database, uri=True)) as connection:
        rows = connection.execute("SELECT leaf, openings FROM entries ORDER BY place").fetchall()
    entries = [open_entry(EncodedEntry(leaf, openings))[1] for leaf, openings in rows]
    return [entry for entry in entries if kind in (None, entry.kind)]
