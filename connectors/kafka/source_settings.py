"""What a `kafka-source` is configured with."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from connectors.kafka.positions import Start
from connectors.kafka.settings import KafkaSettings
from connectors.mapping.settings import MappingSettings
from connectors.runtime.settings import ConnectorSettings, Settings

_TOPIC = re.compile(r"[a-zA-Z0-9._-]{1,249}")


def _topic_name(name: str) -> str:
    if _TOPIC.fullmatch(name) is None or name in (".", ".."):
        raise ValueError("is no name of a Kafka topic: 1 to 249 letters, digits, '.', '_' and '-'")
    return name


def _regular(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"is no regular expression: {error}") from None
    return pattern


TopicName = Annotated[str, AfterValidator(_topic_name)]


class ReadSettings(Settings):
    """The table `read`: which topics, as which consumer group, from where, and where dead letters go."""

    topics: tuple[TopicName, ...] = Field(default=(), description="Names; give either these or `pattern`.")
    pattern: Annotated[str, AfterValidator(_regular)] | None = Field(
        default=None, description="A regular expression that a topic's whole name must match."
    )
    group: str | None = Field(
        default=None,
        min_length=1,
        max_length=249,
        description='Default "entente-" and the connector\'s name.',
    )
    start: Start = Field(default="earliest", description="Where a group that has committed nothing begins.")
    on_out_of_range: Literal["fail", "earliest", "latest"] = Field(
        default="fail", description="What to do when the next record is gone, by retention for example."
    )
    isolation_level: Literal["read_committed", "read_uncommitted"] = Field(
        default="read_committed", description="Whether records of open and aborted transactions are left out."
    )
    session_timeout_s: float = Field(
        default=15.0, ge=6, le=300, description="After which a silent task's partitions go to the others."
    )
    dead_letter_topic: TopicName | None = Field(
        default=None, description='For on_error = "dead-letter"; in the same cluster.'
    )

    @model_validator(mode="after")
    def _one_choice(self) -> Self:
        if bool(self.topics) == (self.pattern is not None):
            raise ValueError("set either topics or pattern")
        if self.dead_letter_topic in self.topics:
            raise ValueError(
                "dead_letter_topic is one of topics: what it keeps would be read again and again"
            )
        return self

    def whole_pattern(self) -> str | None:
        """The pattern of whole names, which never takes the topic of dead letters; None if topics are named."""
        if self.pattern is None:
            return None
        never = "" if self.dead_letter_topic is None else rf"(?!{re.escape(self.dead_letter_topic)}\Z)"
        return rf"{never}(?:{self.pattern})\Z"


class KafkaSourceSettings(ConnectorSettings):
    """The agency's Kafka to the exchange."""

    tasks: int = Field(default=1, ge=1, le=64, description="Consumers of the group in this process.")
    kafka: KafkaSettings
    read: ReadSettings
    map: MappingSettings

    @model_validator(mode="after")
    def _letters_have_a_place(self) -> Self:
        if self.on_error == "dead-letter" and self.read.dead_letter_topic is None:
            raise ValueError('on_error = "dead-letter" needs read.dead_letter_topic')
        return self
