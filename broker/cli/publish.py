"""`entente publish`: JSON documents become records; or, with --dry-run, what each party would receive of them."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, BinaryIO, NoReturn

import typer

from broker.cli.command import call, shared_options
from broker.cli.settings import Given
from broker.cli.tally import Tally
from connectors.cli.failures import CommandFailed, ExitCode, complain, from_client
from connectors.cli.output import choose_format, show_one

if TYPE_CHECKING:
    from broker.cli.assemble import Template
    from broker.cli.documents import Document, Fault
    from connectors.client import Client
    from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent

Advance = Callable[[int], None]


@shared_options
def publish(
    given: Given,
    topic: Annotated[str, typer.Argument(metavar="TOPIC")],
    file: Annotated[
        str, typer.Argument(metavar="FILE|-", help="JSON, an array, or JSON Lines; sent by the thousand.")
    ],
    type_: Annotated[str, typer.Option("--type", help="The record type.")],
    label: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="May be repeated.")] = None,
    source: Annotated[str | None, typer.Option(help="Default: //<your agency>/cli.")] = None,
    time: Annotated[str | None, typer.Option(help="RFC 3339, or a path.")] = None,
    records: Annotated[
        str | None, typer.Option(help="Path of the records, e.g. '$.vulnerabilities'.")
    ] = None,
    id_: Annotated[
        list[str] | None,
        typer.Option("--id", help="Path of the id; several are joined with '/'. Default: a UUID."),
    ] = None,
    subject: Annotated[str | None, typer.Option(help="A value, or a path such as '$.cveID'.")] = None,
    partition_key: Annotated[
        str | None, typer.Option(help="A value, or a path; records of one key keep their order.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Publish nothing; show what each party would receive.")
    ] = False,
    receipts: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Keep the receipts there, for 'audit check-receipts'.")
    ] = None,
) -> None:
    """Publish one record per JSON document, or per element of an array.

    Paths are RFC 9535 JSONPath limited to names and [*]. Exits with 6 if only a part was published, and
    --dry-run with 3 if anything would be refused.
    """
    from broker.cli.assemble import (
        Template,
        parse_labels,
        parse_option_path,
        parse_time_or_path,
        parse_value_or_path,
    )
    from broker.cli.documents import read_documents
    from broker.cli.preview import preview

    inside = None if records is None else parse_option_path(records, "--records")
    template = Template(
        type=type_,
        source=source or "",
        labels=parse_labels(label or []),
        ids=tuple(parse_option_path(each, "--id") for each in id_ or []),
        subject=parse_value_or_path(subject, "--subject"),
        partition_key=parse_value_or_path(partition_key, "--partition-key"),
        time=parse_time_or_path(time, "--time"),
    )
    form, tally = choose_format(given.output), Tally()
    with _opened(file) as stream:
        made = assemble(read_documents(stream, inside), tally)
        if dry_run:
            call(given, lambda client: preview(client, topic, template, made, tally, form))
            raise typer.Exit(tally.exit_code())
        try:
            with interruptible():
                code = call(given, lambda client: _publish(client, topic, template, made, tally, receipts))
        except KeyboardInterrupt:
            show_one(
                form, tally.summary()
            )  # what is durable is durable: whoever interrupted has to know how much
            raise
    show_one(form, tally.summary())
    raise typer.Exit(code)


def assemble(
    documents: Iterator[Document | Fault], tally: Tally
) -> Callable[[Template], Iterator[CloudEvent]]:
    """A function that makes the records of a template; faulty documents are told and left out."""
    from broker.cli.documents import Fault

    def records(template: Template) -> Iterator[CloudEvent]:
        for document in documents:
            if isinstance(document, Fault):
                tally.fault(document.place, document.problem)
                continue
            try:
                record = template.record(document)
            except ValueError as error:
                tally.fault(document.place, str(error))
                continue
            tally.places.append(document.place)
            yield record

    return records


async def _publish(
    client: Client,
    topic: str,
    template: Template,
    made: Callable[[Template], Iterator[CloudEvent]],
    tally: Tally,
    receipts: Path | None,
) -> ExitCode:
    """Publish everything; an error after a part was published ends in PARTLY_PUBLISHED, with its line."""
    from connectors.errors import EntenteClientError
    from connectors.publishing import cut

    complete = await with_source(client, template)
    try:
        with _progress() as advance:
            async for outcomes in client.publish_stream(topic, cut(made(complete)), receipts=receipts):
                for outcome in outcomes:
                    tally.note(outcome)
                advance(len(outcomes))
    except EntenteClientError as error:
        if not tally.durable:
            raise
        complain(str(from_client(error)))
        return ExitCode.PARTLY_PUBLISHED
    return tally.exit_code()


async def with_source(client: Client, template: Template) -> Template:
    """The template with a source: the caller's own agency is known to the exchange only."""
    from dataclasses import replace

    if template.source:
        return template
    return replace(template, source=f"//{(await client.who_am_i()).agency}/cli")


@contextmanager
def interruptible() -> Iterator[None]:
    """Inside the block Ctrl-C ends also the reading of a pipe that nobody writes to; asyncio would wait for its end."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals arrive in the main thread only
        return
    before = signal.signal(signal.SIGINT, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


@contextmanager
def _opened(name: str) -> Iterator[BinaryIO]:
    if name == "-":
        yield sys.stdin.buffer
        return
    try:
        stream = open(name, "rb")  # noqa: PTH123, SIM115 - closed below
    except OSError as error:
        raise CommandFailed(f"{name}: {error.strerror}; correct the path", ExitCode.USAGE) from None
    with stream:
        yield stream


@contextmanager
def _progress() -> Iterator[Advance]:
    """A bar on standard error, if that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("publishing"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda count: bar.advance(task, count)
