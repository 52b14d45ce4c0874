"""Rulebook revisions on Kafka: compacted topic `<prefix>.rulebooks`, one partition.

A revision is one JSON document {path: base64}, cut into chunks with keys `<id>/<number>`; after them, under the key
`<id>`, a record with the number of chunks. A revision without that record or a chunk is not there. The id is the hash
of the files, so what is read is verified against it. Signed manifests of a revision have keys `<id>#<SHA-256 in hex>`.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import logging
from collections.abc import Sequence

import orjson
from kafka.admin import OffsetSpec

from broker.adapters.kafka.admin import KEEP_FOR_GOOD, ClusterAdmin
from broker.adapters.kafka.connection import KafkaConnection
from broker.adapters.kafka.outbox import Message, Outbox
from broker.adapters.kafka.span import Entry, read_span
from broker.errors import StorageUnavailable
from broker.model.rulebook import Revision, revision_id

log = logging.getLogger(__name__)

CHUNK_BYTES = 512 * 1024
_IN_FLIGHT = 16
_PUT_TIMEOUT_S = 30.0
"""For so many records: a rulebook of a million agreements has a thousand."""
_MANIFEST = "#"


class KafkaRulebookStore:
    """Implements the RulebookStore port; keeps offsets in memory, and contents in Kafka."""

    def __init__(self, connection: KafkaConnection) -> None:
        self._connection = connection
        self._topic = connection.topic("rulebooks")
        self._admin = ClusterAdmin(connection)
        self._outbox = Outbox(connection)
        self._reading = asyncio.Lock()
        self._read_to = 0
        self._chunks: dict[str, dict[int, int]] = {}
        self._revisions: dict[str, int] = {}
        self._manifests: dict[str, dict[str, bytes]] = {}

    @classmethod
    async def open(cls, connection: KafkaConnection) -> KafkaRulebookStore:
        """Create the topic if it is absent and learn what it holds; raises StorageUnavailable."""
        store = cls(connection)
        try:
            settings = {"cleanup.policy": "compact", "retention.ms": KEEP_FOR_GOOD}
            await store._admin.ensure_topic(store._topic, 1, settings)
            await store._outbox.start()
            await store._refresh()
        except BaseException:
            await store.close()
            raise
        return store

    @classmethod
    async def open_to_read(cls, connection: KafkaConnection) -> KafkaRulebookStore:
        """For `get` and `list` only; needs the rights DESCRIBE and READ, and makes nothing. Raises StorageUnavailable."""
        store = cls(connection)
        try:
            if await store._admin.find_topic(store._topic) is None:
                raise StorageUnavailable(
                    f"Kafka holds no topic '{store._topic}', or these credentials may not describe it"
                )
            await store._refresh()
        except BaseException:
            await store.close()
            raise
        return store

    async def put(self, revision: Revision) -> None:
        """See RulebookStore."""
        if await asyncio.to_thread(revision_id, revision.files) != revision.id:
            raise ValueError(f"'{revision.id}' is not the hash of the revision's files")
        await self._refresh()
        if self._is_complete(revision.id):
            return
        await self._send(await asyncio.to_thread(encode_revision, revision))

    async def get(self, revision_id: str) -> Revision | None:
        """See RulebookStore."""
        await self._refresh()
        if not self._is_complete(revision_id):
            return None
        places = {offset: number for number, offset in self._chunks[revision_id].items()}
        found: dict[int, bytes] = {}
        async for entry in read_span(self._connection, self._topic, min(places), max(places) + 1):
            if entry.offset in places and entry.value is not None:
                found[places[entry.offset]] = entry.value
        document = b"".join(
            found[number] for number in range(self._revisions[revision_id]) if number in found
        )
        return await asyncio.to_thread(_decode, revision_id, document)

    async def put_manifest(self, revision_id: str, note: bytes) -> None:
        """See RulebookStore."""
        key = f"{revision_id}{_MANIFEST}{hashlib.sha256(note).hexdigest()}"
        await self._refresh()
        if key not in self._manifests.get(revision_id, {}):
            await self._send([Message(key.encode(), note, None)])

    async def manifests(self, revision_id: str) -> Sequence[bytes]:
        """See RulebookStore."""
        await self._refresh()
        return list(self._manifests.get(revision_id, {}).values())

    async def list(self) -> Sequence[str]:
        """See RulebookStore."""
        await self._refresh()
        return [name for name in self._revisions if self._is_complete(name)]

    async def close(self) -> None:
        """See RulebookStore. Ends all threads."""
        await self._outbox.close()
        await self._admin.close()

    async def _send(self, messages: Sequence[Message]) -> None:
        for first in range(0, len(messages), _IN_FLIGHT):
            some = messages[first : first + _IN_FLIGHT]
            sent = [self._outbox.enqueue(self._topic, 0, [message]) for message in some]
            await asyncio.wait(sent, timeout=_PUT_TIMEOUT_S)
            if not all(one.done() and one.exception() is None for one in sent):
                raise StorageUnavailable("Kafka did not confirm the rulebook; store it again")
        await self._refresh()

    async def _refresh(self) -> None:
        """Learn what was written since the last look, by this instance or others."""
        async with self._reading:
            (end,) = await self._admin.offsets(self._topic, 1, OffsetSpec.LATEST)
            async for entry in read_span(self._connection, self._topic, self._read_to, end):
                self._learn(entry)
                self._read_to = entry.offset + 1

    def _learn(self, entry: Entry) -> None:
        """Note where things are; what this store did not write is ignored."""
        try:
            key = entry.key.decode()
            name, _, number = key.partition("/")
            if _MANIFEST in key:
                revision = key.partition(_MANIFEST)[0]
                self._manifests.setdefault(revision, {}).setdefault(key, entry.value or b"")
            elif number:
                self._chunks.setdefault(name, {})[int(number)] = entry.offset
            else:
                self._revisions.setdefault(name, int(orjson.loads(entry.value or b"")["chunks"]))
        except (ValueError, KeyError, TypeError):
            log.error("offset %d of the rulebooks' topic is not readable and is ignored", entry.offset)

    def _is_complete(self, name: str) -> bool:
        return name in self._revisions and self._chunks.get(name, {}).keys() >= set(
            range(self._revisions[name])
        )


def encode_revision(revision: Revision) -> Sequence[Message]:
    """The records that hold a revision: its chunks, then its manifest."""
    content = {
        "files": {path: base64.b64encode(data).decode() for path, data in revision.files.items()},
        "time_dependent": revision.time_dependent,
    }
    document = orjson.dumps(content, option=orjson.OPT_SORT_KEYS)
    pieces = [document[at : at + CHUNK_BYTES] for at in range(0, len(document), CHUNK_BYTES)]
    chunks = [Message(f"{revision.id}/{n}".encode(), piece, None) for n, piece in enumerate(pieces)]
    return [*chunks, Message(revision.id.encode(), orjson.dumps({"chunks": len(pieces)}), None)]


def _decode(name: str, document: bytes) -> Revision:
    mismatch = f"what is stored does not match the revision '{name}'; restore it from its source"
    try:
        content = orjson.loads(document)
        files = {path: base64.b64decode(data, validate=True) for path, data in content["files"].items()}
        found = Revision(name, files, bool(content["time_dependent"]))
    except (orjson.JSONDecodeError, binascii.Error, KeyError, TypeError, AttributeError) as error:
        raise ValueError(mismatch) from error
    if revision_id(files) != name:
        raise ValueError(mismatch)
    return found
