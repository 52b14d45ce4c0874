"""Results on standard output: a table for people, JSON for programs."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum

from connectors.cli.text import printable, to_json


class OutputFormat(StrEnum):
    """How results are shown."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"


def choose_format(given: OutputFormat | None) -> OutputFormat:
    """What was asked for; else a table on a terminal and one JSON object a line elsewhere."""
    if given is not None:
        return given
    return OutputFormat.TABLE if sys.stdout.isatty() else OutputFormat.JSONL


def show_one(form: OutputFormat, result: Mapping[str, object]) -> None:
    """One object: a table of names and values, or JSON."""
    if form is OutputFormat.TABLE:
        _print_table(("", ""), [(name, _cell(value)) for name, value in result.items()], heads=False)
    else:
        write_line(to_json(dict(result), indent=2 if form is OutputFormat.JSON else None))


def show_all(form: OutputFormat, columns: Sequence[str], results: Sequence[Mapping[str, object]]) -> None:
    """Several objects: a table of the named columns, one JSON array, or one object a line."""
    if form is OutputFormat.TABLE:
        _print_table(columns, [[_cell(result.get(name)) for name in columns] for result in results])
    elif form is OutputFormat.JSON:
        write_line(to_json([dict(result) for result in results], indent=2))
    else:
        for result in results:
            write_line(to_json(dict(result)))


def write_line(line: str) -> None:
    """Write one line to standard output and flush it. Raises BrokenPipeError."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return ", ".join(map(printable, value))
    if isinstance(value, list | dict):
        return printable(to_json(value))
    return printable(str(value))


def _print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, heads: bool = True) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(show_header=heads, box=None, pad_edge=False, header_style="bold")
    for name in columns:
        table.add_column(name.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)
    sys.stdout.flush()
