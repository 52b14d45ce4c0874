"""`entente rulebook check`: whether a rulebook could be approved."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from broker.cli.command import shared_options
from broker.cli.rulebook.opened import (
    OpaOption,
    RulebookPath,
    counted,
    examined,
    finding_object,
    write_finding,
)
from broker.cli.settings import Given
from connectors.cli.failures import ExitCode
from connectors.cli.output import OutputFormat, choose_format, show_one, write_line

if TYPE_CHECKING:
    from broker.core.rulebook.examine import Examination


@shared_options
def check(given: Given, path: RulebookPath, opa: OpaOption = None) -> None:
    """Check a rulebook: files, data, modules, Rego tests, cases, guarantees and the time that decisions take.

    Prints a line for each finding: file and line, what is wrong, what to do. Exits with 0 if there is no error (there may
    be warnings), with 1 if there is one, and with 2 if nothing could be checked.
    """
    examination = examined(path, opa)
    if choose_format(given.output) is OutputFormat.TABLE:
        for finding in examination.findings:
            write_finding(finding)
        write_line(_summary(examination))
    else:
        show_one(choose_format(given.output), _as_object(examination))
    if examination.errors:
        raise typer.Exit(ExitCode.FAILED)


def _summary(examination: Examination) -> str:
    warnings = len(examination.findings) - examination.errors
    if examination.errors:
        return f"refused: {counted(examination.errors, 'error')}, {counted(warnings, 'warning')}"
    tried = sum(outcome.checked for outcome in examination.guarantees)
    slowest = examination.slowest
    took = "" if slowest is None else f"; the slowest decision took {(slowest.duration_ns or 0) / 1e6:.1f} ms"
    return (
        f"good, with {counted(warnings, 'warning')}: {counted(len(examination.tests), 'Rego test')}, "
        f"{counted(len(examination.cases), 'case')}, {counted(len(examination.guarantees), 'guarantee')} "
        f"on {counted(tried, 'combination')}{took}"
    )


def _as_object(examination: Examination) -> dict[str, object]:
    slowest = examination.slowest
    return {
        "revision": examination.revision or None,
        "accepted": not examination.errors,
        "findings": [finding_object(finding) for finding in examination.findings],
        "tests": len(examination.tests),
        "cases": len(examination.cases),
        "guarantees": [
            {
                "name": outcome.guarantee.name,
                "file": outcome.guarantee.file,
                "line": outcome.guarantee.line,
                "holds": outcome.holds,
                "combinations": outcome.checked,
                "complete": outcome.complete,
            }
            for outcome in examination.guarantees
        ],
        "slowest_decision": None
        if slowest is None
        else {
            "file": slowest.question.file,
            "line": slowest.question.line,
            "title": slowest.question.title,
            "milliseconds": round((slowest.duration_ns or 0) / 1e6, 3),
        },
    }
