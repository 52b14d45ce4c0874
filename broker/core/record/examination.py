"""Examining records beside the event loop where that takes long, so that one publisher's documents hold up nobody else.

Looking through a megabyte of tiny arrays takes more than a second (measured), during which a stream would not beat, a token
would not expire and nothing would be delivered. Two threads for all, and one record at a time for each agency.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from broker.core.record.admission import Admission, Candidate, RecordLimits
from broker.core.record.fingerprint import content_of
from broker.errors import EntenteError
from broker.model.principal import Principal
from broker.model.registry import Registry, Topic
from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent

LARGE_BYTES = 16 << 10
"""From this size on a record is examined in a thread; smaller ones take less than the way there and back."""

TURN_BYTES = 64 << 10
"""After so many bytes of small records others have their turn."""

_THREADS = 2


class Examiner:
    """Examines the records of one revision; used from the event loop only."""

    def __init__(self, registry: Registry, limits: RecordLimits) -> None:
        self._admission = Admission(registry, limits)
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="examine")

    async def examine(
        self,
        events: Sequence[CloudEvent],
        principal: Principal,
        topic: Topic,
        *,
        keep_documents: bool = False,
    ) -> list[Candidate | EntenteError]:
        """What `Admission.examine` says of each, in order.

        keep_documents: whether candidates hold their parsed documents, which take a multiple of the record.
        """
        found: list[Candidate | EntenteError] = []
        done_bytes = 0
        for event in events:
            content = content_of(event)
            if len(content) >= LARGE_BYTES:
                look = partial(self._examine, event, content, principal, topic, keep_documents)
                async with self._turns[principal.agency]:
                    found.append(await asyncio.get_running_loop().run_in_executor(self._threads, look))
                continue
            found.append(self._examine(event, content, principal, topic, keep_documents))
            done_bytes += len(content)
            if done_bytes >= TURN_BYTES:
                done_bytes = 0
                await asyncio.sleep(0)
        return found

    def _examine(
        self, event: CloudEvent, content: bytes, principal: Principal, topic: Topic, keep_document: bool
    ) -> Candidate | EntenteError:
        try:
            return self._admission.examine(event, content, principal, topic, keep_document=keep_document)
        except EntenteError as refusal:
            return refusal
