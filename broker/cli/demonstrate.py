"""`entente demo`: the whole path on real records, checked against what is expected."""

from __future__ import annotations

from typing import Annotated

import typer

from broker.cli.command import shared_options
from broker.cli.initialise import BackendName
from broker.cli.settings import Given
from connectors.cli.failures import CommandFailed, ExitCode, complain
from connectors.cli.output import OutputFormat, show_one


@shared_options
def demo(
    given: Given,
    backend: Annotated[BackendName, typer.Option(help="Where the demo stores.")] = BackendName.EMBEDDED,
    kafka: Annotated[
        str | None, typer.Option(help="HOST:PORT of a Kafka broker; else the checkout's own is started.")
    ] = None,
) -> None:
    """Publish real records as two agencies, subscribe as five, and show who received what. Exits with 7 if it differs
    from what the sample agreements promise.
    """
    from broker.demo.process import DemoFailed
    from broker.demo.report import as_object, show
    from broker.demo.run import run_demo

    if kafka is not None and backend is not BackendName.KAFKA:
        raise CommandFailed("--kafka belongs to --backend kafka", ExitCode.USAGE)
    try:
        story = run_demo("kafka" if backend is BackendName.KAFKA else "embedded", kafka, progress=complain)
    except DemoFailed as error:
        raise CommandFailed(str(error)) from None
    if given.output in (None, OutputFormat.TABLE):
        show(story)
    else:
        show_one(OutputFormat(given.output), as_object(story))
    for fault in story.faults:
        complain(f"not as expected: {fault}")
    if story.faults:
        raise typer.Exit(ExitCode.FAULTS_FOUND)
