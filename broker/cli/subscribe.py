"""`entente subscribe`: deliveries as they come, each acknowledged after it is written out."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.command import call, shared_options
from broker.cli.settings import Given
from broker.cli.start import encode_cursor, parse_start
from connectors.cli.failures import CommandFailed, ExitCode, complain
from connectors.cli.output import OutputFormat, choose_format, write_line
from connectors.cli.text import printable, to_json

if TYPE_CHECKING:
    from connectors.client import Client
    from connectors.delivery import Delivery, StreamChoices
    from protos.entente.v1.exchange_pb2 import Disclosure, Withdrawal


@shared_options
def subscribe(
    given: Given,
    topic: Annotated[str, typer.Argument(metavar="TOPIC")],
    purpose: Annotated[
        str, typer.Option(help="What the records will be used for; your token must permit it.")
    ],
    subscription: Annotated[str | None, typer.Option(help="A durable position of this name.")] = None,
    from_: Annotated[
        str, typer.Option("--from", metavar="earliest|latest|TIME|CURSOR", help="For a new position.")
    ] = "earliest",
    max_: Annotated[
        int | None, typer.Option("--max", min=1, help="Ask for so many records, then end.")
    ] = None,
    idle_timeout: Annotated[
        float | None, typer.Option(min=0.0, help="End when nothing came for so many seconds.")
    ] = None,
    receipts: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Keep the receipts there, for 'audit check-receipts'.")
    ] = None,
) -> None:
    """Receive records. A line holds the CloudEvents JSON format, "cursor" and "disclosure".

    A line with "withdrawal" names a record of earlier that its owner has withdrawn: stop using it.
    One with "policy_change" says that the rulebook shows what follows otherwise.

    Resuming from any line's cursor loses nothing; it may repeat records of the line's batch, since only the last
    record of a batch has the position after it.
    """
    choices: StreamChoices = {
        "subscription": subscription,
        "start": parse_start(from_, option="--from"),
        "limit": max_,
        "idle_timeout_s": idle_timeout,
        "receipts": receipts,
    }
    writer = _Writer(choose_format(given.output))
    count = call(given, lambda client: _receive(client, topic, purpose, choices, writer))
    if sys.stderr.isatty():
        complain(f"{count} received")


async def _receive(client: Client, topic: str, purpose: str, choices: StreamChoices, writer: _Writer) -> int:
    from connectors.retry import Retry

    # About a minute without progress: an exchange that starts again reads its ledger first.
    choices["reconnect"] = Retry(attempts=24, first_s=0.2, longest_s=3.0)
    count = 0
    try:
        async with client.subscribe(topic, purpose, **choices) as stream:
            async for delivery in stream:
                writer.write(delivery)
                await stream.ack(delivery)
                count += delivery.policy_change is None
    finally:
        writer.end()
    return count


class _Writer:
    """Writes deliveries in one of the formats; each is flushed before `write` returns."""

    def __init__(self, form: OutputFormat) -> None:
        self._count = 0
        writers: dict[OutputFormat, Callable[[Delivery], None]] = {
            OutputFormat.TABLE: self._write_row,
            OutputFormat.JSON: self._write_element,
            OutputFormat.JSONL: lambda delivery: write_line(to_json(delivery_object(delivery))),
        }
        self._form = form
        self._write = writers[form]

    def write(self, delivery: Delivery) -> None:
        """Raises BrokenPipeError, and CommandFailed when the disk is full, so that it is not acknowledged."""
        try:
            self._write(delivery)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise CommandFailed(f"standard output: {error.strerror}", ExitCode.FAILED) from None
        self._count += 1

    def end(self) -> None:
        """Close the JSON array."""
        if self._form is OutputFormat.JSON:
            write_line("\n]" if self._count else "[]")

    def _write_element(self, delivery: Delivery) -> None:
        sys.stdout.write(("," if self._count else "[") + "\n" + to_json(delivery_object(delivery), indent=2))
        sys.stdout.flush()

    def _write_row(self, delivery: Delivery) -> None:
        if not self._count:
            write_line(_row("EFFECT", "TYPE", "ID", "SOURCE", "MASKED"))
        effect = _effect(delivery.disclosure)
        masked = ",".join(delivery.disclosure.masked)
        if delivery.notice is not None:
            notice = delivery.notice
            write_line(_row(effect, notice.type, notice.id, f"{notice.owner} {notice.contact}", masked))
        elif delivery.withdrawal is not None:
            gone = delivery.withdrawal
            write_line(_row("withdrawn", gone.type, gone.id, gone.source, ""))
        elif delivery.policy_change is not None:
            write_line("the rulebook shows what follows otherwise")
        elif delivery.record is not None:
            record = delivery.record
            write_line(_row(effect, record.type, record.id, record.source, masked))


def _row(*cells: str) -> str:
    widths = (9, 26, 44, 36, 0)
    return " ".join(printable(cell).ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def delivery_object(delivery: Delivery) -> dict[str, object]:
    """A delivery as one JSON object: the CloudEvents JSON format, or what there is instead; `cursor`, `disclosure`."""
    from connectors.cloudevents import to_json_event

    shown: dict[str, object] = {}
    if delivery.record is not None:
        shown.update(to_json_event(delivery.record))
    if delivery.notice is not None:
        notice = delivery.notice
        shown["notice"] = {
            "id": notice.id,
            "type": notice.type,
            "owner": notice.owner,
            "contact": notice.contact,
        }
    shown["cursor"] = encode_cursor(delivery.cursor)
    if delivery.policy_change is not None:
        return {"policy_change": {}, **shown}
    if delivery.withdrawal is not None:
        return {"withdrawal": withdrawal_object(delivery.withdrawal), **shown}
    shown["disclosure"] = {
        "effect": _effect(delivery.disclosure),
        "masked": list(delivery.disclosure.masked),
        "obligations": list(delivery.disclosure.obligations),
        "decision": None,  # reserved in the API
    }
    return shown


def withdrawal_object(withdrawal: Withdrawal) -> dict[str, object]:
    """What is told of a withdrawn record."""
    names = ("source", "id", "type", "owner", "contact", "reason")
    return {name: getattr(withdrawal, name) for name in names}


def _effect(disclosure: Disclosure) -> str:
    from protos.entente.v1 import exchange_pb2

    return exchange_pb2.Effect.Name(disclosure.effect).removeprefix("EFFECT_").lower()
