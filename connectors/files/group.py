"""Small files of one record each, on their way to the exchange in one call."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from connectors.files.disk import NoPlainFile
from connectors.files.outgoing import OutgoingFile, send
from connectors.files.pieces import FileChanged, PieceReader
from connectors.files.sending import Mapped
from connectors.files.settings import FileSourceSettings
from connectors.files.watching import Waiting
from connectors.publishing import BATCH_BYTES
from connectors.runtime.plugin import TaskContext

_MOST_FILES = 100
"""They are open at the same time."""


def in_one_call(ready: Sequence[Waiting]) -> Iterator[Sequence[Waiting]]:
    """The files in their order: those of one record as many together as fit into a call, any other alone."""
    together: list[Waiting] = []
    size_bytes = 0
    for each in ready:
        size_bytes += each.state.size_bytes
        alone = each.form != "json" or size_bytes > BATCH_BYTES or len(together) == _MOST_FILES
        if together and (alone or together[-1].form != "json"):
            yield together
            together, size_bytes = [], each.state.size_bytes
        together.append(each)
    if together:
        yield together


@dataclass(frozen=True, slots=True)
class _Opened:
    """A file whose record was read. batch: that record."""

    work: OutgoingFile
    reader: PieceReader
    batch: Sequence[Mapped]


class OutgoingGroup:
    """Files that are sent together, and then put away one by one."""

    def __init__(self, works: Sequence[OutgoingFile]) -> None:
        self._works = works
        self.done: list[str] = []
        """Names of those that are put away."""
        self.changed: list[str] = []
        """Names of those that have to be read anew."""

    async def send(self, task: TaskContext, settings: FileSourceSettings) -> None:
        """All of them unless stopped, or up to the one that stops the connector. Raises as Connector.run."""
        opened = await asyncio.to_thread(self._open)
        try:
            if await task.gate.proceed():
                await self._send(opened, task, settings)
        finally:
            for each in opened:
                each.reader.close()

    async def _send(self, opened: Sequence[_Opened], task: TaskContext, settings: FileSourceSettings) -> None:
        if settings.on_error == "fail":
            stops = (number for number, each in enumerate(opened, 1) if each.batch[0].cause is not None)
            opened = opened[: next(stops, len(opened))]
        events = [each.work.events(each.batch) for each in opened]
        outcomes = iter(await send(task, settings, [event for found in events for event in found]))
        settled: list[_Opened] = []
        try:
            for each, found in zip(opened, events, strict=True):
                await each.work.settle(each.batch, [next(outcomes) for _ in found])
                settled.append(each)
        finally:
            await asyncio.to_thread(self._finish, settled)

    def _open(self) -> list[_Opened]:
        opened: list[_Opened] = []
        try:
            for work in self._works:
                with self._noting(work):
                    opened.append(_opened(work))
        except BaseException:
            for each in opened:
                each.reader.close()
            raise
        return opened

    def _finish(self, settled: Sequence[_Opened]) -> None:
        for each in settled:
            with self._noting(each.work):
                each.work.finish(each.reader)
                self.done.append(each.work.name)

    @contextmanager
    def _noting(self, work: OutgoingFile) -> Iterator[None]:
        """What happens to one file keeps no other one back."""
        try:
            yield
        except (FileChanged, NoPlainFile):
            self.changed.append(work.name)
        except FileNotFoundError:
            if work.is_there:
                raise


def _opened(work: OutgoingFile) -> _Opened:
    reader = work.open()
    try:
        return _Opened(work, reader, work.read(reader))
    except BaseException:
        reader.close()
        raise
