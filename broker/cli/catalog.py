"""`entente catalog`: what the caller may know of the exchange."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.command import call, shared_options
from broker.cli.settings import Given
from connectors.cli.failures import CommandFailed, ExitCode
from connectors.cli.output import choose_format, show_all, show_one
from connectors.cli.program import example

if TYPE_CHECKING:
    from connectors.client import Client
    from protos.entente.v1 import catalog_pb2

catalog = typer.Typer(
    name="catalog", help="What you may know of the exchange.", epilog=example("entente catalog topics")
)


@catalog.command("topics", epilog=example("entente catalog topics"))
@shared_options
def topics(given: Given) -> None:
    """Topics that you may publish to or subscribe to."""
    found = [_topic(each) for each in call(given, lambda client: client.topics())]
    show_all(choose_format(given.output), tuple(_TOPIC_COLUMNS), found)


@catalog.command("types", epilog=example("entente catalog types"))
@shared_options
def types(given: Given) -> None:
    """Record types of those topics."""
    found = [_record_type(each) for each in call(given, lambda client: client.record_types())]
    show_all(choose_format(given.output), ("name", "owner", "content_type", "description"), found)


@catalog.command("agencies", epilog=example("entente catalog agencies"))
@shared_options
def agencies(given: Given) -> None:
    """Your agency and those with which it has an agreement."""
    found = [_agency(each) for each in call(given, lambda client: client.agencies())]
    show_all(choose_format(given.output), ("name", "title", "contact"), found)


@catalog.command("vocabulary", epilog=example("entente catalog vocabulary -o json"))
@shared_options
def vocabulary(given: Given) -> None:
    """The words that labels and tokens may use; classifications in rising order."""
    words = call(given, lambda client: client.vocabulary())
    names = ("classifications", "purposes", "regulations", "categories", "markings")
    show_one(choose_format(given.output), {name: list(getattr(words, name)) for name in names})


@catalog.command("show", epilog=example("entente catalog show crash-reports"))
@shared_options
def show(given: Given, name: Annotated[str, typer.Argument(metavar="NAME")]) -> None:
    """One topic, record type or agency, whole."""
    found = call(given, lambda client: _find(client, name))
    if found is None:
        message = (
            f"'{name}' is nothing that you may know, or it might not exist; see 'entente catalog topics'"
        )
        raise CommandFailed(message, ExitCode.REFUSED)
    show_one(choose_format(given.output), found)


async def _find(client: Client, name: str) -> Mapping[str, object] | None:
    for topic in await client.topics():
        if topic.name == name:
            return {"kind": "topic"} | _topic(topic)
    for record_type in await client.record_types():
        if record_type.name == name:
            return {"kind": "record type"} | _record_type(record_type)
    for agency in await client.agencies():
        if agency.name == name:
            return {"kind": "agency"} | _agency(agency)
    return None


_TOPIC_COLUMNS = ("name", "steward", "record_types", "may_publish", "subscribe_purposes", "description")


def _topic(topic: catalog_pb2.Topic) -> dict[str, object]:
    return {
        "name": topic.name,
        "description": topic.description,
        "steward": topic.steward,
        "record_types": list(topic.record_types),
        "retention_s": topic.retention_s or None,
        "may_publish": topic.may_publish,
        "subscribe_purposes": list(topic.subscribe_purposes),
    }


def _record_type(record_type: catalog_pb2.RecordType) -> dict[str, object]:
    return {
        "name": record_type.name,
        "owner": record_type.owner,
        "description": record_type.description,
        "content_type": record_type.content_type,
        "fields": {field.path: list(field.markings) for field in record_type.fields},
    }


def _agency(agency: catalog_pb2.Agency) -> dict[str, object]:
    return {"name": agency.name, "title": agency.title, "contact": agency.contact}
