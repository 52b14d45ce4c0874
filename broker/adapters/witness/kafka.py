"""A witness that is a topic of another Kafka cluster: each checkpoint is a record, its key the origin.

The other cluster's operator creates the topic (one partition, kept for good or compacted) and grants no more than
describing, reading and writing it. A topic that is absent is not created: it may have been deleted.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

from kafka.admin import OffsetSpec

from broker.adapters.kafka.admin import ClusterAdmin
from broker.adapters.kafka.connection import KafkaConnection
from broker.adapters.kafka.flight import SendFailed
from broker.adapters.kafka.outbox import Message, Outbox
from broker.adapters.kafka.span import read_span
from broker.core.checkpoint.checkpoint import unverified_checkpoint
from broker.core.checkpoint.note import NoteInvalid
from broker.core.merkle.proofs import ProofInvalid
from broker.core.witness.judge import RootConflict, judge
from broker.errors import StorageUnavailable
from broker.ports.clock import Clock
from broker.ports.witness import WitnessFork, WitnessUnavailable, WitnessUpdate

_FIRST_LOOK = 256
"""How many of the last records are read first; each further look is for four times as many."""


class KafkaWitness:
    """Implements Witness; belongs to the event loop. Connects when it is first used."""

    def __init__(
        self, name: str, connection: KafkaConnection, topic: str, clock: Clock, *, timeout_s: float = 10.0
    ) -> None:
        """topic: its name in the cluster. timeout_s: how long a checkpoint may take to be confirmed."""
        self._name = name
        self._connection = connection
        self._topic = topic
        self._clock = clock
        self._timeout_s = timeout_s
        self._admin = ClusterAdmin(connection, timeout_s=timeout_s)
        self._outbox: Outbox | None = None
        self._ready = False
        self._turn = asyncio.Lock()
        self._held: dict[str, bytes | None] = {}

    @property
    def name(self) -> str:
        """See Witness."""
        return self._name

    async def held_size(self, origin: str, checkpoint: bytes) -> int:
        """See Witness; `checkpoint` is not needed."""
        note = await self.latest(origin)
        return 0 if note is None else unverified_checkpoint(note).size

    async def latest(self, origin: str) -> bytes | None:
        """See Witness; what is in the topic, not what is remembered of it."""
        with self._reported():
            async with self._turn:
                await self._prepare()
                self._held[origin] = await self._find(origin)
                return self._held[origin]

    async def offer(self, update: WitnessUpdate) -> None:
        """See Witness; makes no cosignature. Confirmed by all in-sync replicas on return."""
        offered = unverified_checkpoint(update.note)
        with self._reported():
            async with self._turn:
                await self._prepare()
                if update.origin not in self._held:
                    self._held[update.origin] = await self._find(update.origin)
                held_note = self._held[update.origin]
                held = None if held_note is None else unverified_checkpoint(held_note)
                try:
                    judge(held, update.old_size, update.proof, offered)
                except (RootConflict, ProofInvalid) as error:
                    raise WitnessFork(
                        f"{self._name}: topic {self._topic}: {error}; find out which history is true"
                    ) from None
                if held is None or held.size < offered.size:
                    await self._send(update)

    async def close(self) -> None:
        """See Witness. Ends all threads."""
        if self._outbox is not None:
            await self._outbox.close()
        await self._admin.close()

    async def _prepare(self) -> None:
        """Look for the topic, once."""
        if self._ready:
            return
        found = await self._admin.find_topic(self._topic)
        if found is None:
            raise StorageUnavailable(f"there is no topic {self._topic}; its cluster's operator creates it")
        if found.partitions != 1:
            raise StorageUnavailable(
                f"topic {self._topic} has {found.partitions} partitions; name one with a single one"
            )
        self._ready = True

    async def _send(self, update: WitnessUpdate) -> None:
        if self._outbox is None:
            self._outbox = Outbox(self._connection)
        await self._outbox.start()
        # Whatever happens now, only the topic itself can say what it holds; until it is confirmed nothing is remembered.
        del self._held[update.origin]
        message = Message(update.origin.encode(), update.note, self._clock.now_ms())
        landed = self._outbox.enqueue(self._topic, 0, [message])
        await asyncio.wait([landed], timeout=self._timeout_s)
        if not landed.done():
            raise WitnessUnavailable(
                f"{self._name}: Kafka did not confirm the checkpoint in time; see its cluster"
            )
        landed.result()
        self._held[update.origin] = update.note

    async def _find(self, origin: str) -> bytes | None:
        """The newest checkpoint of this origin, from the end backwards."""
        (start,) = await self._admin.offsets(self._topic, 1, OffsetSpec.EARLIEST)
        (end,) = await self._admin.offsets(self._topic, 1, OffsetSpec.LATEST)
        look = _FIRST_LOOK
        while end > start:
            begin, found = max(start, end - look), None
            async for entry in read_span(self._connection, self._topic, begin, end):
                if entry.key == origin.encode() and entry.value is not None and _is_of(entry.value, origin):
                    found = entry.value
            if found is not None:
                return found
            end, look = begin, 4 * look
        return None

    @contextlib.contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except (StorageUnavailable, SendFailed) as error:
            raise WitnessUnavailable(f"{self._name}: {error}; see its cluster, or the credentials") from None


def _is_of(note: bytes, origin: str) -> bool:
    with contextlib.suppress(NoteInvalid):
        return unverified_checkpoint(note).origin == origin
    return False
