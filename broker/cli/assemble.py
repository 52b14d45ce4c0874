"""Turns documents into records by the options of `entente publish`."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from broker.cli.documents import Document, select_text
from broker.core.redact.paths import Path, PathError, parse_path
from connectors.cli.failures import CommandFailed, ExitCode

if TYPE_CHECKING:
    from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent


@dataclass(frozen=True, slots=True)
class Template:
    """What each record is made of; a Path is looked up in its document.

    ids: joined with "/"; none: a random UUID.
    """

    type: str
    source: str
    labels: dict[str, str]
    ids: tuple[Path, ...] = ()
    subject: str | Path | None = None
    partition_key: str | Path | None = None
    time: str | Path | None = None

    def record(self, document: Document) -> CloudEvent:
        """The record of one document. Raises ValueError if a path does not select one value."""
        from connectors.cloudevents import new_record, parse_time

        time = _value(self.time, document)
        record = new_record(
            type=self.type,
            source=self.source,
            data=document.content,
            labels=self.labels,
            id="/".join(select_text(document.value, path) for path in self.ids) or str(uuid.uuid4()),
            time=None if time is None else parse_time(time),
            subject=_value(self.subject, document),
            partition_key=_value(self.partition_key, document),
        )
        # Text rather than bytes: the same to the exchange, readable in other tools.
        record.text_data = document.content.decode("utf-8")
        return record


def _value(wanted: str | Path | None, document: Document) -> str | None:
    return select_text(document.value, wanted) if isinstance(wanted, tuple) else wanted


def parse_labels(given: Sequence[str]) -> dict[str, str]:
    """Labels of `name=value`; a repeated name adds to the list. Raises CommandFailed (usage)."""
    labels: dict[str, str] = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not (name and equals and value):
            raise CommandFailed("--label is NAME=VALUE, for example dataclassification=green", ExitCode.USAGE)
        labels[name] = f"{labels[name]},{value}" if name in labels else value
    return labels


def parse_option_path(text: str, option: str) -> Path:
    """A JSONPath of names and [*]. Raises CommandFailed (usage)."""
    try:
        return parse_path(text)
    except PathError as error:
        raise CommandFailed(f"{option}: {error}", ExitCode.USAGE) from None


def parse_time_or_path(text: str | None, option: str) -> str | Path | None:
    """An RFC 3339 time, or a path if it begins with `$`. Raises CommandFailed (usage)."""
    from connectors.cloudevents import parse_time

    value = parse_value_or_path(text, option)
    if isinstance(value, str):
        try:
            parse_time(value)
        except ValueError as error:
            raise CommandFailed(f"{option}: {error}", ExitCode.USAGE) from None
    return value


def parse_value_or_path(text: str | None, option: str) -> str | Path | None:
    """A value as it is, or a path if it begins with `$`."""
    if text is None or not text.startswith("$"):
        return text
    return parse_option_path(text, option)
