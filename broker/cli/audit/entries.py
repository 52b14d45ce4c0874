"""`entente audit entries`: the ledger's entries themselves, by kind, time, agency and reference."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from broker.cli.audit import asked
from broker.cli.audit.options import LedgerGiven, ledger_options, source_of
from broker.cli.audit.running import run
from broker.cli.audit.times import parse_since, parse_until
from broker.cli.command import call, shared_options
from broker.cli.settings import Given
from connectors.cli.failures import CommandFailed, ExitCode
from connectors.cli.output import OutputFormat, choose_format, show_all

if TYPE_CHECKING:
    from broker.app.ledger_sources import LedgerSource
    from broker.model.ledger import EncodedEntry
    from connectors.client import Client

_COLUMNS = ("entry", "time", "kind", "agency", "subject", "topic", "reference")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which entries are shown; what is None or empty restricts nothing. Times in milliseconds since 1970, both included."""

    kinds: tuple[str, ...]
    instance: str | None
    since_ms: int | None
    until_ms: int | None
    agency: str | None
    reference: str | None

    def takes(self, kind: str, time_ms: int) -> bool:
        """Whether an entry is wanted as far as its leaf tells."""
        early = self.since_ms is not None and time_ms < self.since_ms
        late = self.until_ms is not None and time_ms > self.until_ms
        return not early and not late and (not self.kinds or kind in self.kinds)

    def names(self, parts: Mapping[str, Any]) -> bool:
        """Whether its parts name the agency and the reference that are asked for."""
        if self.reference is not None and _of(parts, "reference", "call") != self.reference:
            return False
        return self.agency is None or self.agency in _agencies(parts)


@shared_options
@ledger_options
def entries(
    given: Given,
    ledger: LedgerGiven,
    kind: Annotated[list[str] | None, typer.Option(help="Only this kind; may be repeated.")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME|DATE", help="RFC 3339, or a date: from its beginning in UTC.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="TIME|DATE", help="RFC 3339, or a date: to its end in UTC.")
    ] = None,
    agency: Annotated[
        str | None, typer.Option(help="Only what names this agency: as caller, receiver or owner.")
    ] = None,
    reference: Annotated[
        str | None, typer.Option(help="Only the call with the reference that it had.")
    ] = None,
    instance: Annotated[str | None, typer.Option(help="Only of this instance.")] = None,
) -> None:
    """List entries, by instance and number, whole or as far as you may see them.

    Without --ledger the exchange is asked, and answers what you may know. That entries are what they were is for
    `entente audit verify` to say; one whose contents are not what it commits to ends the list with exit status 7.
    """
    bounds = parse_since(since, "--since"), parse_until(until, "--until")
    wanted = Wanted(tuple(kind or ()), instance, *bounds, agency, reference)
    form = choose_format(given.output)
    if ledger.ledger is None:
        call(given, lambda client: _show(form, _asked(client, wanted)))
    else:
        run(_show_read(form, source_of(given, ledger), wanted))


async def _show(form: OutputFormat, found: AsyncIterator[dict[str, Any]]) -> None:
    """One object a line is written as it comes; what has to be whole is gathered."""
    if form is OutputFormat.JSONL:
        async for each in found:
            show_all(form, _COLUMNS, [each])
        return
    gathered = [each async for each in found]
    show_all(form, _COLUMNS, gathered if form is OutputFormat.JSON else [_line(each) for each in gathered])


async def _asked(client: Client, wanted: Wanted) -> AsyncIterator[dict[str, Any]]:
    """What the exchange shows. It tells times to the millisecond, and takes an end that is not included."""
    until_ms = None if wanted.until_ms is None else wanted.until_ms + 1
    found = client.ledger.entries(
        instance=wanted.instance or "",
        kinds=wanted.kinds,
        since=_moment(wanted.since_ms),
        until=_moment(until_ms),
    )
    async for entry in found:
        shown = asked.entry_object(entry)
        if wanted.names(shown["parts"]):
            yield shown


async def _show_read(form: OutputFormat, source: LedgerSource, wanted: Wanted) -> None:
    from broker.app.ledger_sources import opened_source
    from broker.model.ledger import ReadPoint

    async with opened_source(source) as opened:

        async def found() -> AsyncIterator[dict[str, Any]]:
            for instance in await opened.reader.instances():
                if wanted.instance not in (None, instance):
                    continue
                async for read in opened.reader.read(instance, ReadPoint()):
                    for each in _shown(instance, read.entries, wanted):
                        yield each

        await _show(form, found())


def _shown(instance: str, encoded: Sequence[EncodedEntry], wanted: Wanted) -> list[dict[str, Any]]:
    """Those that are wanted. Raises CommandFailed for one that cannot be believed."""
    from broker.core.ledger.leaf import EntryInvalid, open_entry, read_leaf

    shown: list[dict[str, Any]] = []
    for each in encoded:
        try:
            leaf = read_leaf(each.leaf)
            if not wanted.takes(leaf.kind, leaf.time_ms):
                continue
            leaf, entry = open_entry(each)
        except EntryInvalid as error:
            message = f"{instance}: {error}; find its place with `entente audit verify`"
            raise CommandFailed(message, ExitCode.FAULTS_FOUND) from None
        parts = {**{name: root.hex() for name, root in entry.roots.items()}, **entry.body}
        if wanted.names(parts):
            shown.append(asked.as_entry(leaf, each, parts))
    return shown


def _line(shown: Mapping[str, Any]) -> dict[str, object]:
    """An entry as a row of a table: who, about what."""
    parts = shown["parts"]
    return {
        "entry": shown["entry"],
        "time": shown["time"],
        "kind": shown["kind"],
        "agency": _of(parts, "agency", "who", "class", "refused"),
        "subject": _of(parts, "subject", "who"),
        "topic": _of(parts, "topic", "call", "class", "stream", "change"),
        "reference": _of(parts, "reference", "call"),
    }


def _of(parts: Mapping[str, Any], member: str, *names: str) -> object:
    """The first of these parts that has the member."""
    found = (parts.get(name) for name in names)
    return next((part[member] for part in found if isinstance(part, dict) and member in part), None)


def _agencies(parts: Mapping[str, Any]) -> set[object]:
    """Whom an entry names: who called, who received, whose records they were."""
    found = {_of(parts, "agency", name) for name in ("who", "class", "refused")}
    for row in _rows(parts, "acknowledged"):
        found.add(row.get("agency"))
    for decision in _rows(parts, "decisions"):
        found.add(_of(_of_input(decision), "agency", "record"))
        found.add(_of(decision, "owner", "withdrawal"))
    return found - {None}


def _of_input(decision: Mapping[str, Any]) -> Mapping[str, Any]:
    found = decision.get("input")
    return found if isinstance(found, dict) else {}


def _rows(parts: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    found = parts.get(name)
    return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []


def _moment(time_ms: int | None) -> datetime | None:
    return None if time_ms is None else datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=time_ms)
