"""Exit codes, and how every error becomes one line on standard error."""

from __future__ import annotations

import sys
from enum import IntEnum
from typing import TYPE_CHECKING

from connectors.cli.text import one_line

if TYPE_CHECKING:
    from connectors.errors import EntenteClientError


class ExitCode(IntEnum):
    """What the program's exit says."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    REFUSED = 3
    UNAUTHENTICATED = 4
    UNAVAILABLE = 5
    PARTLY_PUBLISHED = 6
    FAULTS_FOUND = 7
    INCOMPLETE = 8
    INTERRUPTED = 130


class CommandFailed(Exception):
    """Ends a command: one line and the exit code."""

    def __init__(self, message: str, code: ExitCode = ExitCode.FAILED) -> None:
        super().__init__(message)
        self.code = code


_BY_STATUS = {
    "UNAUTHENTICATED": ExitCode.UNAUTHENTICATED,
    "UNAVAILABLE": ExitCode.UNAVAILABLE,
    "DEADLINE_EXCEEDED": ExitCode.UNAVAILABLE,
    "PERMISSION_DENIED": ExitCode.REFUSED,
    "NOT_FOUND": ExitCode.REFUSED,
    "INVALID_ARGUMENT": ExitCode.REFUSED,
    "ALREADY_EXISTS": ExitCode.REFUSED,
    "FAILED_PRECONDITION": ExitCode.REFUSED,
    "OUT_OF_RANGE": ExitCode.REFUSED,
    "ABORTED": ExitCode.REFUSED,
    "RESOURCE_EXHAUSTED": ExitCode.REFUSED,
    "UNIMPLEMENTED": ExitCode.REFUSED,
}


def from_client(error: EntenteClientError) -> CommandFailed:
    """The exchange's answer as a line with its reference; what it lists besides (the vocabulary) goes behind."""
    line = f"{error.reason}: {error.message}"
    for name, value in sorted(error.metadata.items()):
        line += f" {name}: {value.replace(',', ', ')}."
    if error.reference:
        line += f" (reference {error.reference})"
    return CommandFailed(line, _BY_STATUS.get(error.code, ExitCode.FAILED))


def complain(message: str) -> None:
    """Write one line to standard error."""
    print(f"entente: {one_line(message)}", file=sys.stderr, flush=True)
