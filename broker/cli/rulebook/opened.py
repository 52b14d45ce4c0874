"""What the commands of `entente rulebook` share: their arguments, and how findings are written."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from connectors.cli.failures import CommandFailed, ExitCode
from connectors.cli.output import write_line
from connectors.cli.text import one_line

if TYPE_CHECKING:
    from broker.core.rulebook.examine import Examination
    from broker.core.rulebook.findings import Finding

RulebookPath = Annotated[
    Path, typer.Argument(metavar="DIR", help="A rulebook's directory, or a .tar.gz of its files.")
]
OpaOption = Annotated[
    Path | None, typer.Option("--opa", help="The OPA binary, if not the one of the installation.")
]


def examined(path: Path, opa: Path | None) -> Examination:
    """The examination of the rulebook at `path`. Raises CommandFailed (usage) if there is none, or no OPA."""
    from broker.app.examination import examine_rulebook
    from broker.errors import RulebookRefused

    refuse_absent(path)
    try:
        return asyncio.run(examine_rulebook(path, opa))
    except RulebookRefused as refused:
        raise CommandFailed("; ".join(refused.findings), ExitCode.USAGE) from None


def refuse_absent(path: Path) -> None:
    """Raises CommandFailed (usage) if there is nothing at `path`."""
    if not path.exists():
        raise CommandFailed(f"{path}: no such directory or archive; correct the path", ExitCode.USAGE)


def write_finding(finding: Finding) -> None:
    """One line, in the form that editors read: place, kind, what is wrong, what to do."""
    place = finding.file if finding.line is None else f"{finding.file}:{finding.line}"
    write_line(one_line(f"{place}: {finding.severity}: {finding.what}; {finding.remedy}"))


def finding_object(finding: Finding) -> dict[str, object]:
    """The finding for programs."""
    return {
        "severity": str(finding.severity),
        "file": finding.file,
        "line": finding.line,
        "what": finding.what,
        "remedy": finding.remedy,
    }


def counted(number: int, word: str) -> str:
    """For example "1 error", "2 errors"."""
    return f"{number:,} {word}" + ("" if number == 1 else "s")
