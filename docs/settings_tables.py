"""The keys of connectors' configuration as Markdown tables, from the settings that check them."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping
from functools import partial
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from connectors.files.settings import FileSinkSettings, FileSourceSettings
from connectors.kafka.settings import KafkaSettings
from connectors.kafka.sink_settings import KafkaSinkSettings
from connectors.kafka.source_settings import KafkaSourceSettings
from connectors.mapping.settings import MappingSettings
from connectors.runtime.settings import ConnectorSettings, ExchangeSettings, Secret

_ELSEWHERE: Mapping[type[BaseModel], str] = {
    ExchangeSettings: "See [the exchange](#the-exchange).",
    KafkaSettings: "See [Kafka clusters](#kafka-clusters).",
    MappingSettings: "See [Mapping](#mapping).",
}
"""Tables that several connectors have."""

_OF_ALL = frozenset(ConnectorSettings.model_fields)


def _table(model: type[BaseModel], *, without: Container[str] = (), prefix: str = "") -> str:
    rows = [f"| `{key}` | {default} | {meaning} |" for key, default, meaning in _rows(model, prefix, without)]
    return "\n".join(["| key | default | meaning |", "|---|---|---|", *rows])


def _rows(model: type[BaseModel], prefix: str, without: Container[str]) -> Iterator[tuple[str, str, str]]:
    """Key, default and meaning. Raises ValueError for a key whose meaning nobody wrote."""
    for name, field in model.model_fields.items():
        if name in without:
            continue
        key, section = f"{prefix}{name}", _section(field.annotation)
        if section in _ELSEWHERE:
            yield key, _default(field), _ELSEWHERE[section]
        elif section is not None and section is not Secret:
            yield from _rows(section, f"{key}.", ())
        elif not field.description:
            raise ValueError(f"{model.__name__}.{name} has no description")
        else:
            yield key, _default(field), _meaning(field, secret=section is Secret)


def _meaning(field: FieldInfo, *, secret: bool) -> str:
    text = (field.description or "").replace("|", "\\|")
    if secret:
        return f'{text} A secret: `{{ file = "…" }}` or `{{ env = "…" }}`.'
    choices = _choices(field.annotation)
    if choices and not all(f"`{choice}`" in text for choice in choices):
        text += f" One of {', '.join(f'`{choice}`' for choice in choices)}."
    return text


def _choices(annotation: Any) -> tuple[str, ...]:
    """Of a Literal, also one among others (a time, None)."""
    if get_origin(annotation) is Annotated:
        return _choices(get_args(annotation)[0])
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    return next((found for each in get_args(annotation) if (found := _choices(each))), ())


def _section(annotation: Any) -> type[BaseModel] | None:
    """The model that a key holds, directly or if it may be absent."""
    candidates = (annotation, *get_args(annotation))
    return next((each for each in candidates if isinstance(each, type) and issubclass(each, BaseModel)), None)


def _default(field: FieldInfo) -> str:
    default = field.get_default(call_default_factory=True)
    if default is PydanticUndefined:
        return "required"
    if default is None or default == ():
        return "none"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f'`"{default}"`' if isinstance(default, str) else f"`{default}`"


TABLES: Mapping[str, Callable[[], str]] = {
    "connector-keys": partial(_table, ConnectorSettings),
    "connector-exchange": partial(_table, ExchangeSettings, prefix="exchange."),
    "connector-kafka": partial(_table, KafkaSettings, prefix="kafka."),
    "connector-kafka-source": partial(_table, KafkaSourceSettings, without=_OF_ALL),
    "connector-kafka-sink": partial(_table, KafkaSinkSettings, without=_OF_ALL),
    "connector-file-source": partial(_table, FileSourceSettings, without=_OF_ALL),
    "connector-file-sink": partial(_table, FileSinkSettings, without=_OF_ALL),
}
"""By the name of a marked part of docs/connectors.md."""
