"""What a Kafka sink is configured with."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from connectors.kafka.destinations import Destinations, check_name
from connectors.kafka.settings import KafkaSettings
from connectors.runtime.names import default_subscription
from connectors.runtime.settings import ConnectorSettings, Settings

Mode = Literal["binary", "structured"]
KeyBy = Literal["record", "partitionkey", "subject", "source"]
Start = Literal["earliest", "latest"] | datetime

_SUBSCRIPTION = re.compile(r"[a-z0-9._-]{1,64}")


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


class KafkaSinkSettings(ConnectorSettings):
    """A connector with `plugin = "kafka-sink"`."""

    purpose: str = Field(min_length=1, description="What the records are for; the token must permit it.")
    subscription: str | None = Field(
        default=None, description='Its name; default "connect-" and the connector\'s.'
    )
    start: Start = Field(default="earliest", description="Where a new subscription begins.")
    on_expired: Literal["fail", "earliest"] = Field(
        default="fail",
        description="Where records have gone that were not read: stop, or go on with the earliest.",
    )
    kafka: KafkaSettings
    write: WriteSettings

    @field_validator("subscription")
    @classmethod
    def _subscription(cls, name: str | None) -> str | None:
        if name is not None and _SUBSCRIPTION.fullmatch(name) is None:
            raise ValueError("a subscription's name is 1 to 64 of a-z, 0-9, '.', '_' and '-'")
        return name

    @field_validator("start")
    @classmethod
    def _zoned(cls, start: Start) -> Start:
        if isinstance(start, datetime) and start.tzinfo is None:
            raise ValueError(
                "the time has no zone; write it with Z or an offset, for example 2026-01-31T12:00:00Z"
            )
        return start

    @model_validator(mode="after")
    def _dead_letters(self) -> Self:
        if self.on_error == "dead-letter" and self.write.dead_letter_topic is None:
            raise ValueError('on_error "dead-letter" needs write.dead_letter_topic')
        return self

    def subscription_of(self, name: str) -> str:
        """The subscription's name for a connector's. Names of connectors may have capitals, subscriptions' may not."""
        return self.subscription or default_subscription(name)
