"""The page on the SQLite file names every table, view and column that there is, and no other."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import pytest

from broker.adapters.export.schema import SCHEMA
from broker.core.audit.rows import INTERNED, TABLES

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "ledger-tables.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def columns() -> dict[str, list[str]]:
    connection = sqlite3.connect(":memory:")
    connection.executescript(SCHEMA.sql)
    names = [
        name
        for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type IN ('table', 'view')")
        if not name.startswith("sqlite_")
    ]
    found = {name: [row[1] for row in connection.execute(f"PRAGMA table_xinfo({name})")] for name in names}
    connection.close()
    return found


def documented() -> dict[str, set[str]]:
    """By table the words in code spans of its row, without the first cell."""
    found: dict[str, set[str]] = {}
    for line in PAGE.splitlines():
        cells = line.strip("|").split("|")
        if line.startswith("| `"):
            words = set(re.findall(r"`([a-z_]+)`", "|".join(cells[1:])))
            for name in re.findall(r"`([a-z_]+)`", cells[0]):
                found[name] = words
    return found


def test_every_table_and_view_is_there(columns: dict[str, list[str]]) -> None:
    assert documented().keys() == columns.keys()


def test_every_column_is_there(columns: dict[str, list[str]]) -> None:
    for table, names in columns.items():
        assert {*names} <= documented()[table], table


def test_rows_are_those_of_the_tables(columns: dict[str, list[str]]) -> None:
    assert TABLES.keys() | {*INTERNED.values()} <= columns.keys()
    for table, names in TABLES.items():
        if table not in ("released", "decided"):  # of these an entry's rows are made from one text
            assert columns[table][: len(names) + 1] == ["entry", *names]
