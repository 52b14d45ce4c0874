"""Old records read once for all who catch up side by side.

Groups that begin at one place and take whole chunks ask for the same positions one after the other. Each reader would make
Kafka send them again; with more groups than readers, every read would even begin with a seek.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable

from broker.model.record import Chunk

_RECORD_BYTES = 200


class SharedChunks:
    """Chunks by what was asked for, bounded in bytes; equal questions that are under way share one answer."""

    def __init__(self, limit_bytes: int = 32 << 20) -> None:
        self._limit_bytes = limit_bytes
        self._chunks: OrderedDict[Hashable, tuple[Chunk, int]] = OrderedDict()
        self._size_bytes = 0
        self._loading: dict[Hashable, asyncio.Task[Chunk]] = {}

    async def read(self, key: Hashable, load: Callable[[], Awaitable[Chunk]]) -> Chunk:
        """The chunk of this key; raises what `load` raises, which is not kept."""
        if key in self._chunks:
            self._chunks.move_to_end(key)
            return self._chunks[key][0]
        loading = self._loading.get(key)
        if loading is None:
            loading = self._loading[key] = asyncio.ensure_future(self._load(key, load))
            # Looked at here, since all who wait may have been cancelled.
            loading.add_done_callback(lambda done: done.cancelled() or done.exception())
        # One that is cancelled must not end the read for the others.
        return await asyncio.shield(loading)

    def clear(self) -> None:
        """Forget all chunks."""
        self._chunks.clear()
        self._size_bytes = 0

    async def close(self) -> None:
        """End the reads that are under way."""
        for task in list(self._loading.values()):
            task.cancel()
        await asyncio.gather(*self._loading.values(), return_exceptions=True)

    async def _load(self, key: Hashable, load: Callable[[], Awaitable[Chunk]]) -> Chunk:
        try:
            chunk = await load()
        finally:
            del self._loading[key]
        self._keep(key, chunk)
        return chunk

    def _keep(self, key: Hashable, chunk: Chunk) -> None:
        size_bytes = sum(len(record.body) + _RECORD_BYTES for record in chunk.records)
        self._chunks[key] = (chunk, size_bytes)
        self._size_bytes += size_bytes
        while self._size_bytes > self._limit_bytes:
            self._size_bytes -= self._chunks.popitem(last=False)[1][1]
