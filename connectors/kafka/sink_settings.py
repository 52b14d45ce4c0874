"""What a Kafka sink is configured with."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from connectors.kafka.destinations import Destinations, check_name
from connectors.kafka.settings import KafkaSettings
from connectors.runtime.settings import Settings, SinkSettings

Mode = Literal["binary", "structured"]
KeyBy = Literal["record", "partitionkey", "subject", "source"]


class WriteSettings(Settings):
    """The table `write`: what becomes of records in Kafka."""

    topic: str = Field(description="Template of the destination over {topic}, {type} and {source_agency}.")
    mode: Mode = Field(default="binary", description="How CloudEvents are written (Kafka binding 1.0.2).")
    key: KeyBy = Field(
        default="record",
        description="`record`: source, a space and id; the only one under which withdrawn records are deleted.",
    )
    tombstones: bool = Field(default=True, description="Delete withdrawn records, with key `record`.")
    notice_topic: str | None = Field(
        default=None, description="Notices, withdrawals and policy changes; without it they are not kept."
    )
    cursor_topic: str = Field(
        default="entente.cursors", description="Where connectors have come to; compacted."
    )
    dead_letter_topic: str | None = Field(
        default=None, description='Where records go that Kafka refuses, for on_error = "dead-letter".'
    )
    create_topics: bool = Field(
        default=False, description="Create what is missing, as the cluster's defaults say."
    )

    @field_validator("topic")
    @classmethod
    def _template(cls, template: str) -> str:
        Destinations(template, frozenset())
        return template

    @field_validator("notice_topic", "cursor_topic", "dead_letter_topic")
    @classmethod
    def _name(cls, name: str | None) -> str | None:
        return name if name is None else check_name(name)

    @property
    def reserved(self) -> frozenset[str]:
        """Topics that no record may be written to, whatever the template makes of it."""
        own = (self.notice_topic, self.cursor_topic, self.dead_letter_topic)
        return frozenset(name for name in own if name is not None)

    @model_validator(mode="after")
    def _apart(self) -> Self:
        named = [self.notice_topic, self.cursor_topic, self.dead_letter_topic]
        if len(self.reserved) < sum(name is not None for name in named) or self.topic in self.reserved:
            raise ValueError(
                "topic, notice_topic, cursor_topic and dead_letter_topic must be different topics"
            )
        return self


class KafkaSinkSettings(SinkSettings):
    """A connector with `plugin = "kafka-sink"`."""

    kafka: KafkaSettings
    write: WriteSettings

    @model_validator(mode="after")
    def _dead_letters(self) -> Self:
        if self.on_error == "dead-letter" and self.write.dead_letter_topic is None:
            raise ValueError('on_error "dead-letter" needs write.dead_letter_topic')
        return self
