"""Subscribes once and notes what comes, compared with what was published."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count

from broker.cli.difference import compare
from broker.demo.story import Received
from connectors.client import Client
from connectors.cloudevents import attribute, data_of
from connectors.delivery import Delivery
from connectors.errors import EntenteClientError
from connectors.stream import RecordStream
from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent

_ARRIVAL_TIMEOUT_S = 15.0
"""For each delivery that is promised, and for the refusal where none is; a machine may be slow."""
_SURPLUS_TIMEOUT_S = 0.7
"""How long to look for a delivery that is not promised."""


@dataclass(slots=True)
class Observation:
    """Counts as they grow; `last_content` is the content of the last record."""

    refused: str | None = None
    whole: int = 0
    redacted: int = 0
    notices: int = 0
    removed: set[str] = field(default_factory=set)
    changed: set[str] = field(default_factory=set)
    masked: set[str] = field(default_factory=set)
    obligations: set[str] = field(default_factory=set)
    classifications: Counter[str] = field(default_factory=Counter)
    last_content: object = None

    @property
    def received(self) -> Received:
        """The final counts."""
        return Received(
            refused=self.refused,
            whole=self.whole,
            redacted=self.redacted,
            notices=self.notices,
            removed=frozenset(self.removed),
            changed=frozenset(self.changed),
            masked=tuple(sorted(self.masked)),
            obligations=tuple(sorted(self.obligations)),
            classifications=dict(sorted(self.classifications.items())),
        )

    def note(self, delivery: Delivery, originals: Mapping[tuple[str, str], CloudEvent]) -> None:
        """Count one delivery. Raises KeyError for a record that was never published."""
        self.masked.update(delivery.disclosure.masked)
        self.obligations.update(delivery.disclosure.obligations)
        if delivery.record is None:
            self.notices += 1
            return
        record = delivery.record
        self.classifications[str(attribute(record, "dataclassification"))] += 1
        self.last_content = data_of(record)
        original = data_of(originals[record.source, record.id])
        if self.last_content == original:
            self.whole += 1
            return
        self.redacted += 1
        removed, changed = compare(original, self.last_content)
        self.removed.update(removed)
        self.changed.update(changed)


async def observe(
    client: Client, topic: str, purpose: str, promised: int, originals: Mapping[tuple[str, str], CloudEvent]
) -> Observation:
    """Everything that one topic gives for one purpose: waits for what is promised, then a moment for anything more.

    Where nothing is promised, what comes first is a refusal, and it gets as much time as a delivery.
    """
    seen = Observation()
    try:
        async with client.subscribe(topic, purpose) as stream:
            for number in count():
                timeout_s = _ARRIVAL_TIMEOUT_S if number < max(promised, 1) else _SURPLUS_TIMEOUT_S
                delivery = await _next(stream, timeout_s)
                if delivery is None:
                    break
                seen.note(delivery, originals)
    except EntenteClientError as error:
        if not error.reference:
            raise  # no exchange answered, which is no refusal
        seen.refused = error.reason
    return seen


async def _next(stream: RecordStream, timeout_s: float) -> Delivery | None:
    try:
        return await asyncio.wait_for(anext(stream), timeout_s)
    except (TimeoutError, StopAsyncIteration):
        return None
