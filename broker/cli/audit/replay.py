"""`entente audit replay`: each recorded decision again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.audit.options import LedgerGiven, ledger_options, source_of
from broker.cli.audit.progress import shown_progress
from broker.cli.audit.running import run
from broker.cli.command import shared_options
from broker.cli.settings import Given
from connectors.cli.failures import CommandFailed, ExitCode, complain
from connectors.cli.output import OutputFormat, choose_format, show_all, show_one, write_line
from connectors.cli.text import printable, to_json

if TYPE_CHECKING:
    from broker.app.ledger_sources import LedgerSource, OpenedLedger
    from broker.core.audit.replayed import ReplayFinding, ReplayTally
    from broker.model.audit import ProgressCallback
    from broker.model.ledger import EncodedEntry


@shared_options
@ledger_options
def replay(
    given: Given,
    ledger: LedgerGiven,
    opa: Annotated[
        list[Path] | None,
        typer.Option(help="The recorded version's OPA; may be repeated. Default: the installed one."),
    ] = None,
) -> None:
    """Make each recorded decision again, by the recorded OPA version's rules under its recorded revision, and compare.

    Tells each that comes out otherwise with its place, and how many agree. Exits with 0 if all agree, with 7 if one does
    not or an entry was changed, with 8 if some could not be made again: a revision or an OPA version is missing, or
    entries were erased.
    """
    form = choose_format(given.output)
    findings: list[dict[str, object]] = []
    tally = run(_replay(source_of(given, ledger), _binaries(opa), _telling(form, findings)))
    _show(form, tally, findings)
    for line in _shortcomings(tally):
        complain(line)
    if tally.faulty:
        raise typer.Exit(ExitCode.FAULTS_FOUND)
    if not tally.complete:
        raise typer.Exit(ExitCode.INCOMPLETE)


def _binaries(opa: Sequence[Path] | None) -> list[Path]:
    from broker.app.rulebook import find_opa
    from broker.errors import RulebookRefused

    for path in opa or ():
        if not path.is_file():
            raise CommandFailed(f"--opa: {path}: no such file; correct the path", ExitCode.USAGE)
    try:
        return list(opa) if opa else [find_opa(None)]
    except RulebookRefused:
        message = "there is no OPA beside this Python or on PATH; name one with --opa"
        raise CommandFailed(message, ExitCode.USAGE) from None


async def _replay(
    source: LedgerSource, opas: Sequence[Path], tell: Callable[[ReplayFinding], None]
) -> ReplayTally:
    from broker.app.ledger_sources import opened_source
    from broker.app.replay import OpaEngines
    from broker.core.audit.replay import Replay

    async with opened_source(source) as opened, OpaEngines(opas, opened.rulebooks) as engines:
        replaying = Replay(engines)
        with shown_progress() as progress:
            async for finding in replaying.run(_entries(opened, progress)):
                tell(finding)
        return replaying.tally


async def _entries(
    opened: OpenedLedger, progress: ProgressCallback | None
) -> AsyncIterator[tuple[str, Sequence[EncodedEntry]]]:
    """All entries, instance by instance."""
    from broker.model.audit import Progress
    from broker.model.ledger import ReadPoint

    for instance in await opened.reader.instances():
        done = 0
        total = await _count(opened, instance)
        async for part in opened.reader.read(instance, ReadPoint()):
            yield instance, part.entries
            done += len(part.entries)
            if progress is not None:
                progress(Progress(f"replaying {instance}", done, total))


async def _count(opened: OpenedLedger, instance: str) -> int | None:
    """How many entries there are, where that is known without reading them."""
    if opened.export is None:
        return None
    return sum(each.end - each.begin for each in await opened.export.coverage() if each.instance == instance)


def _telling(form: OutputFormat, findings: list[dict[str, object]]) -> Callable[[ReplayFinding], None]:
    """What is done with each decision that does not agree: told at once, unless all goes into one JSON document."""
    return {
        OutputFormat.TABLE: _write,
        OutputFormat.JSON: lambda finding: findings.append(as_object(finding)),
        OutputFormat.JSONL: lambda finding: write_line(to_json(as_object(finding))),
    }[form]


def _write(finding: ReplayFinding) -> None:
    write_line(printable(f"{_place(finding)}: {finding.problem}"))
    if finding.input is not None:
        write_line(f"    input    {printable(to_json(finding.input))}")
        write_line(f"    recorded {printable(to_json(finding.recorded))}")
        write_line(f"    replayed {printable(to_json(finding.replayed))}")


def _place(finding: ReplayFinding) -> str:
    part = f" {finding.part}[{finding.number}]" if finding.part else ""
    return f"{finding.instance}/{finding.index} ({finding.kind or 'unreadable'}){part}"


def as_object(finding: ReplayFinding) -> dict[str, object]:
    """A finding as an object."""
    return {
        "outcome": finding.outcome.value,
        "instance": finding.instance,
        "index": finding.index,
        "kind": finding.kind,
        "part": finding.part,
        "number": finding.number,
        "problem": finding.problem,
        "revision": None if finding.rules is None else finding.rules.revision,
        "engine": None if finding.rules is None else finding.rules.engine,
        "input": finding.input,
        "recorded": finding.recorded,
        "replayed": finding.replayed,
    }


def summary(tally: ReplayTally) -> dict[str, object]:
    """The counts as an object; rates count the whole run, reading included."""
    seconds = tally.seconds or 1e-9
    missing = [
        {
            "revision": rules.revision,
            "engine": rules.engine,
            "decisions": each.decisions,
            "first": f"{each.instance}/{each.index}",
            "problem": each.problem,
        }
        for rules, each in tally.missing.items()
    ]
    return {
        "entries": tally.entries,
        "decisions": tally.decisions,
        "agree": tally.agree,
        "differ": tally.differ,
        "engine_faults": tally.faults,
        "engine_faults_answered_now": tally.faults_answered,
        "not_replayed": missing,
        "unreadable_entries": tally.unreadable,
        "erased_entries": tally.erased,
        "distinct_decisions": tally.evaluated,
        "seconds": round(tally.seconds, 3),
        "decisions_per_s": round(tally.decisions / seconds),
        "distinct_per_s": round(tally.evaluated / seconds),
        "rules": [
            {"revision": rules.revision, "engine": rules.engine, "decisions": count}
            for rules, count in sorted(
                tally.by_rules.items(), key=lambda pair: (pair[0].revision, pair[0].engine)
            )
        ],
    }


def _show(form: OutputFormat, tally: ReplayTally, findings: list[dict[str, object]]) -> None:
    counts = summary(tally)
    if form is not OutputFormat.TABLE:
        show_one(form, {"findings": findings} | counts if form is OutputFormat.JSON else counts)
        return
    rules = counts.pop("rules")
    missing = counts.pop("not_replayed")
    show_one(form, counts)
    show_all(form, ("revision", "engine", "decisions"), rules if isinstance(rules, list) else [])
    if missing and isinstance(missing, list):
        show_all(form, ("revision", "engine", "decisions", "first", "problem"), missing)


def _shortcomings(tally: ReplayTally) -> list[str]:
    """What was not made again, a line each."""
    lines = [
        f"{each.decisions} decisions under {rules.revision} by {rules.engine} were not made again,"
        f" the first in {each.instance}/{each.index}: {each.problem}"
        for rules, each in tally.missing.items()
    ]
    if tally.erased:
        lines.append(f"{tally.erased} entries were erased: their decisions, if any, cannot be made again")
    return lines
