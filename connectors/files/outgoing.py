"""One file on its way to the exchange: batch by batch, with its refused records and its place, until it is put away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from itertools import takewhile

from connectors.files import disk
from connectors.files.checkpoint import Checkpoint, Checkpoints
from connectors.files.failed import FailedFolder
from connectors.files.pieces import FileChanged, Piece, PieceReader
from connectors.files.sending import Mapped, map_pieces, publish, refusal
from connectors.files.settings import FileSourceSettings
from connectors.files.watching import Waiting
from connectors.mapping.mapper import Mapper
from connectors.publishing import BATCH_BYTES, BATCH_RECORDS, PublishOutcome
from connectors.runtime.model import ConnectorFailed
from connectors.runtime.plugin import TaskContext
from connectors.runtime.refusals import Letter, Refusals
from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent

_CHECKPOINT_S = 0.5


class OutgoingFile:
    """One file that is being sent; `open`, `read` and `finish` are blocking and belong in a thread."""

    def __init__(
        self,
        settings: FileSourceSettings,
        mapper: Mapper,
        checkpoints: Checkpoints,
        failed: FailedFolder,
        task: TaskContext,
        waiting: Waiting,
    ) -> None:
        self._settings = settings
        self._mapper = mapper
        self._checkpoints = checkpoints
        self._task = task
        self._waiting = waiting
        self.name = waiting.name
        self._path = settings.directory / waiting.name
        self._refusals = Refusals(task.name, settings.on_error, failed, task.progress)
        self._unwritten: Checkpoint | None = None
        self._written_s = 0.0
        self._buried = False

    @property
    def is_there(self) -> bool:
        """Whether a file of its name is there: then it is something else that was not found."""
        return self._path.exists()

    def open(self) -> PieceReader:
        """Where it stands. Raises FileChanged, NoPlainFile, OSError."""
        reader = PieceReader(self._path, self._waiting.form, self._settings.max_record_bytes)
        try:
            if reader.state != self._waiting.state:
                raise FileChanged(self._path.name)
            at = self._checkpoints.read()
            if at is not None and at.name == self._path.name and at.state == reader.state:
                reader.skip(at.line, at.byte)
        except BaseException:
            reader.close()
            raise
        return reader

    def read(self, reader: PieceReader) -> list[Mapped]:
        """The next batch. Raises FileChanged, OSError."""
        pieces = reader.read(BATCH_RECORDS, BATCH_BYTES)
        return map_pieces(self._mapper, pieces, self._settings.max_record_bytes)

    async def publish(self, batch: Sequence[Mapped]) -> None:
        """Send it, and `settle` it. Raises ConnectorFailed."""
        await self.settle(batch, await send(self._task, self._settings, self.events(batch)))

    def events(self, batch: Sequence[Mapped]) -> list[CloudEvent]:
        """What of it is to be sent; nothing behind a record that is to stop the connector."""
        stops = self._settings.on_error == "fail"
        wanted = takewhile(lambda each: not stops or each.cause is None, batch)
        return [each.event for each in wanted if each.event is not None]

    async def settle(self, batch: Sequence[Mapped], outcomes: Sequence[PublishOutcome]) -> None:
        """Count what was sent, treat what was refused, and note how far that is. Raises ConnectorFailed."""
        letters = [_letter(each.piece, each.cause) for each in batch if each.cause is not None]
        sent = [each for each in batch if each.event is not None][: len(outcomes)]
        arrived = []
        for each, outcome in zip(sent, outcomes, strict=True):
            cause = refusal(outcome)
            if cause is not None:
                letters.append(_letter(each.piece, cause))
            elif each.event is not None:
                arrived.append(each.event.ByteSize())
        letters.sort(key=lambda letter: letter.record.start)
        self._task.progress.moved(len(arrived), sum(arrived))
        await self._treat(letters)
        await self._note(batch[-1].piece.line, batch[-1].piece.end)

    async def _treat(self, letters: Sequence[Letter[Piece]]) -> None:
        try:
            await self._refusals.treat(letters)
        except ConnectorFailed:
            first = letters[0].record
            await self._note(first.line - 1, first.start, now=True)
            raise
        self._buried = (
            bool(letters) and self._settings.on_error == "dead-letter" and self._waiting.form == "json"
        )

    async def _note(self, line: int, byte: int, *, now: bool = False) -> None:
        """Keep the place, now and then; only lines have one."""
        if self._waiting.form == "jsonl":
            self._unwritten = Checkpoint(self._path.name, line, byte, self._waiting.state)
            if now or time.monotonic() - self._written_s >= _CHECKPOINT_S:
                await self.keep_place()

    async def keep_place(self) -> None:
        """Write down how far it is. Raises OSError."""
        if self._unwritten is not None:
            await asyncio.to_thread(self._checkpoints.write, self._unwritten)
            self._unwritten, self._written_s = None, time.monotonic()

    def finish(self, reader: PieceReader) -> None:
        """Put it away: into `done`, unless it is one record that is in `failed` now. Raises FileChanged, OSError."""
        reader.refuse_changes()
        if self._buried:
            self._path.unlink()
            disk.sync(self._path.parent)
        else:
            disk.move_aside(self._path, self._settings.done_directory)
        self._checkpoints.forget()


async def send(
    task: TaskContext, settings: FileSourceSettings, events: Sequence[CloudEvent]
) -> list[PublishOutcome]:
    """One outcome an event. Raises ConnectorFailed."""
    return await publish(task, settings.topic, events, settings.retry.policy()) if events else []


def _letter(piece: Piece, cause: str) -> Letter[Piece]:
    return Letter(piece, cause, 1, piece.origin)
