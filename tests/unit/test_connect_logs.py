"""The log of a process that runs connectors: one line each, and nothing of an exception but its kind and place."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any, cast

import pytest

from connectors.cli import logs
from connectors.cli.logs import OneLine

SECRET = "hunter2"


def raised() -> RuntimeError:
    try:
        raise RuntimeError(SECRET)
    except RuntimeError as error:
        return error


def formatted(message: str, *arguments: object, error: BaseException | None = None) -> str:
    info = None if error is None else (type(error), error, error.__traceback__)
    return OneLine().format(logging.LogRecord("some.name", logging.WARNING, "", 0, message, arguments, info))


def test_a_line_has_its_time_level_and_name() -> None:
    line = formatted("topic %s", "crashes")
    assert line.endswith(" WARNING some.name: topic crashes")
    assert line[:4].isdigit()


def test_what_others_wrote_begins_no_line_and_steers_no_terminal() -> None:
    line = formatted("refused: %s", "x\n2026-01-01 ERROR forged\r\x1b[2J\x9b")
    assert not set(line) & set("\n\r\x1b\x9b")


def test_an_exception_is_its_kind_and_place() -> None:
    line = formatted("noted", error=raised())
    assert line.partition(": noted: RuntimeError at ")[2].startswith(__file__)
    assert SECRET not in line


def test_errors_that_python_itself_would_print_are_kinds_and_places(caplog: pytest.LogCaptureFixture) -> None:
    error = raised()
    given = SimpleNamespace(
        exc_type=RuntimeError, exc_value=error, exc_traceback=None, err_msg=None, object=SECRET
    )
    logs._unraisable(cast(Any, given))
    logs._uncaught(RuntimeError, error, error.__traceback__)
    assert [record.levelname for record in caplog.records] == ["ERROR", "CRITICAL"]
    assert all(f"RuntimeError at {__file__}" in record.getMessage() for record in caplog.records)
    assert SECRET not in caplog.text
