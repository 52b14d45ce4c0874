"""`entente audit records`: a record topic replayed by the exchange, whole, or as a principal would have received it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.audit.times import format_ms, parse_since, parse_until
from broker.cli.command import call, shared_options
from broker.cli.settings import Given
from broker.cli.subscribe import withdrawal_object
from connectors.cli.failures import CommandFailed, ExitCode, complain
from connectors.cli.output import OutputFormat, choose_format, write_line
from connectors.cli.text import printable, to_json

if TYPE_CHECKING:
    from connectors.client import Client
    from protos.entente.v1.ledger_pb2 import ReplayedRecord, ReplayRecordsRequest, ReplaySubject


@shared_options
def records(
    given: Given,
    topic: Annotated[str, typer.Option(help="The topic.")],
    from_: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="Stored then or later; default: all.")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Stored until then.")] = None,
    max_: Annotated[int | None, typer.Option("--max", min=1, help="At most so many records.")] = None,
    as_: Annotated[
        str | None, typer.Option("--as", metavar="AGENCY", help="As somebody of this agency would see them.")
    ] = None,
    role: Annotated[list[str] | None, typer.Option(help="With --as; may be repeated.")] = None,
    purpose: Annotated[str | None, typer.Option(help="With --as: the stated purpose.")] = None,
    clearance: Annotated[str | None, typer.Option(help="With --as.")] = None,
    at: Annotated[
        str | None,
        typer.Option(metavar="REVISION", help="With --as: the rulebook; default: the present one."),
    ] = None,
    judged: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="With --as: when expiry and terms are judged; default: now."),
    ] = None,
) -> None:
    """Replay a record topic. A line holds the CloudEvents JSON format, "place" and "recorded", with --as "disclosure" too.

    Nothing is released to anybody else, no position moves, and the ledger says that you read it. Auditors only.
    """
    request = _request(topic, from_, until, max_)
    if as_ is not None:
        request.seen_by.CopyFrom(_subject(as_, role, purpose, clearance))
        request.revision = at or ""
        if (judged_ms := parse_since(judged, "--judged")) is not None:
            request.at.FromMilliseconds(judged_ms)
    elif any(option is not None for option in (role, purpose, clearance, at, judged)):
        message = "--role, --purpose, --clearance, --at and --judged belong to --as"
        raise CommandFailed(message, ExitCode.USAGE)
    writer = _Writer(choose_format(given.output))
    call(given, lambda client: _replay(client, request, writer))
    if sys.stderr.isatty():
        complain(f"{writer.count} records")


def _request(topic: str, since: str | None, until: str | None, limit: int | None) -> ReplayRecordsRequest:
    from protos.entente.v1 import ledger_pb2

    request = ledger_pb2.ReplayRecordsRequest(topic=topic, limit=limit or 0)
    if (since_ms := parse_since(since, "--from")) is not None:
        request.since.FromMilliseconds(since_ms)
    if (until_ms := parse_until(until, "--until")) is not None:
        request.until.FromMilliseconds(until_ms + 1)
    return request


def _subject(
    agency: str, roles: list[str] | None, purpose: str | None, clearance: str | None
) -> ReplaySubject:
    from protos.entente.v1 import ledger_pb2

    if purpose is None:
        raise CommandFailed("--as needs --purpose", ExitCode.USAGE)
    attributes = {} if clearance is None else {"clearance": clearance}
    return ledger_pb2.ReplaySubject(agency=agency, roles=roles or [], purpose=purpose, attributes=attributes)


async def _replay(client: Client, request: ReplayRecordsRequest, writer: _Writer) -> None:
    async for record in client.ledger.replay(request):
        writer.write(record)
    writer.end()


class _Writer:
    """Writes records as they come, in one of the formats."""

    def __init__(self, form: OutputFormat) -> None:
        self._form = form
        self.count = 0

    def write(self, record: ReplayedRecord) -> None:
        """Raises BrokenPipeError."""
        shown = record_object(record)
        if self._form is OutputFormat.JSONL:
            write_line(to_json(shown))
        elif self._form is OutputFormat.JSON:
            write_line(("," if self.count else "[") + "\n" + to_json(shown, indent=2))
        else:
            self._write_row(record, shown)
        self.count += 1

    def end(self) -> None:
        """Close the JSON array."""
        if self._form is OutputFormat.JSON:
            write_line("]" if self.count else "[]")

    def _write_row(self, record: ReplayedRecord, shown: dict[str, object]) -> None:
        if not self.count:
            write_line(_row("RECORDED", "PLACE", "EFFECT", "TYPE", "ID"))
        what: object = shown.get("notice", shown.get("withdrawal", shown))
        named = what if isinstance(what, dict) else {}
        place = f"{record.place.partition}/{record.place.offset}"
        effect = "whole" if record.WhichOneof("content") == "whole" else _effect(record)
        write_line(_row(str(shown["recorded"]), place, effect, str(named["type"]), str(named["id"])))


def _row(*cells: str) -> str:
    widths = (24, 8, 7, 26, 0)
    return " ".join(printable(cell).ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def record_object(record: ReplayedRecord) -> dict[str, object]:
    """A replayed record as one JSON object: the CloudEvents JSON format, `notice` or `withdrawal`, and where it is."""
    from connectors.cloudevents import to_json_event

    shown: dict[str, object] = {}
    if record.WhichOneof("content") == "whole":
        shown.update(to_json_event(record.whole))
    elif record.delivery.HasField("record"):
        shown.update(to_json_event(record.delivery.record))
    elif record.delivery.HasField("withdrawal"):
        shown["withdrawal"] = withdrawal_object(record.delivery.withdrawal)
    else:
        notice = record.delivery.notice
        names = {"id": notice.id, "type": notice.type, "owner": notice.owner, "contact": notice.contact}
        shown["notice"] = names
    shown["place"] = {"partition": record.place.partition, "offset": record.place.offset}
    shown["recorded"] = format_ms(record.recorded_time.ToMilliseconds())
    if record.WhichOneof("content") == "delivery":
        disclosure = record.delivery.disclosure
        shown["disclosure"] = {
            "effect": _effect(record),
            "masked": list(disclosure.masked),
            "obligations": list(disclosure.obligations),
        }
    return shown


def _effect(record: ReplayedRecord) -> str:
    from protos.entente.v1 import exchange_pb2

    if record.delivery.HasField("withdrawal"):
        return "withdrawal"
    effect = record.delivery.disclosure.effect
    return exchange_pb2.Effect.Name(effect).removeprefix("EFFECT_").lower()
