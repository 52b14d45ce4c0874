"""The file source: sends the JSON and JSONL files of a directory to the exchange.

A file is moved to `done` only when every record of it is acknowledged or was treated as `on_error` says. Whatever ends the
process before that, the file is still there, and what is sent again has the same ids.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from connectors.client import Client
from connectors.files import disk
from connectors.files.checkpoint import Checkpoint, Checkpoints
from connectors.files.failed import FailedFolder, Kept
from connectors.files.group import OutgoingGroup, in_one_call
from connectors.files.outgoing import OutgoingFile
from connectors.files.pieces import FileChanged, PieceReader, agency_record
from connectors.files.sending import map_record, publish, refusal
from connectors.files.settings import FileSourceSettings
from connectors.files.watching import Waiting, Watch
from connectors.mapping.mapper import Mapper
from connectors.runtime.model import ConnectorFailed, Direction, Offset, Redriven
from connectors.runtime.plugin import Gate, TaskContext
from connectors.runtime.settings import ConnectorSettings

log = logging.getLogger(__name__)


class FileSource:
    """One directory; one task."""

    tasks = 1

    def __init__(self, name: str, settings: FileSourceSettings, directory: Path) -> None:
        self._name = name
        self._settings = settings
        self._mapper = Mapper(settings.map)
        self._checkpoints = Checkpoints(directory)
        self._failed = FailedFolder(name, settings.failed_directory, settings.directory)
        self._retry = settings.retry.policy()

    async def run(self, task: TaskContext) -> None:
        """See Connector."""
        await asyncio.to_thread(self._prepare)
        agency = (await task.exchange.who_am_i()).agency
        for finding in self._mapper.source_findings(agency):
            raise ConnectorFailed(finding, lasting=True)
        settings = self._settings
        watch = Watch(self._name, settings.directory, settings.format, settings.quiet_s)
        with disk.held(settings.directory):
            while await task.gate.proceed():
                if not await self._round(task, watch):
                    await _pause(task.gate, settings.poll_s)

    async def check(self, exchange: Client) -> Sequence[str]:
        """See Connector."""
        found = await asyncio.to_thread(self._findings)
        found += self._mapper.source_findings((await exchange.who_am_i()).agency)
        if not (await exchange.can_i("publish", self._settings.topic)).permitted:
            found.append(
                f"topic {self._settings.topic}: may not be published to, or it might not exist; ask its owner"
            )
        return found

    async def offsets(self, exchange: Client) -> Sequence[Offset]:
        """How far it is in the file that is being sent, and what waits."""
        return await asyncio.to_thread(self._offsets)

    async def alter_offsets(self, exchange: Client, offsets: Sequence[Offset]) -> None:
        """The offset of a file is the number of lines that are dealt with, {"line": n}; None: begin anew."""
        await asyncio.to_thread(self._alter, offsets)

    async def redrive(self, task: TaskContext, most: int | None) -> Redriven:
        """Send what is in `failed` as it is there now; what succeeds goes to `done`."""
        await asyncio.to_thread(self._prepare)
        letters = await asyncio.to_thread(self._failed.kept)
        tried = failed = 0
        for letter in letters[:most]:
            if not await task.gate.proceed():
                break
            tried += 1
            failed += not await self._again(task, letter)
        return Redriven(tried, failed)

    # -- one look, one file, one batch ----------------------------------------------------------------------------

    async def _round(self, task: TaskContext, watch: Watch) -> bool:
        """Send what is ready; whether there was anything."""
        waiting = await asyncio.to_thread(watch.look)
        _tell_lag(task, waiting)
        if not waiting:
            task.progress.idle()
        ready = [each for each in waiting if each.ready]
        left = {each.name: each for each in waiting}
        for together in in_one_call(ready):
            if not await task.gate.proceed():
                break
            for name in await self._put_through(task, watch, together):
                del left[name]
            task.progress.lag_records = len(left)
        _tell_lag(task, list(left.values()))
        return bool(ready)

    async def _put_through(
        self, task: TaskContext, watch: Watch, together: Sequence[Waiting]
    ) -> Sequence[str]:
        """Send files; the names of those that need not be looked at again."""
        works = [
            OutgoingFile(self._settings, self._mapper, self._checkpoints, self._failed, task, each)
            for each in together
        ]
        if len(works) > 1:
            group = OutgoingGroup(works)
            await group.send(task, self._settings)
            done, changed = group.done, group.changed
        else:
            done, changed = await self._put_through_alone(task, works[0])
        for name in changed:
            watch.changed(name)
            log.warning("connector %s: %s changed while it was read; it is read anew", self._name, name)
        return done

    async def _put_through_alone(self, task: TaskContext, work: OutgoingFile) -> tuple[list[str], list[str]]:
        """Send one file; its name if it is done, and if it has changed."""
        try:
            return ([work.name] if await self._send(task, work) else []), []
        except (FileChanged, disk.NoPlainFile):
            return [], [work.name]
        except FileNotFoundError:
            if work.is_there:
                raise
            return [], []

    async def _send(self, task: TaskContext, work: OutgoingFile) -> bool:
        """One file from where it stands to its end, unless stopped; raises FileChanged, and what `run` raises."""
        reader = await asyncio.to_thread(work.open)
        try:
            following = asyncio.create_task(asyncio.to_thread(work.read, reader))
            try:
                while batch := await following:
                    if not await task.gate.proceed():
                        await work.keep_place()
                        return False
                    following = asyncio.create_task(asyncio.to_thread(work.read, reader))
                    await work.publish(batch)
            finally:
                # A thread may still read: the file is closed only after it.
                with suppress(FileChanged, OSError):
                    await asyncio.shield(following)
            await asyncio.to_thread(work.finish, reader)
            return True
        finally:
            reader.close()

    async def _again(self, task: TaskContext, letter: Kept) -> bool:
        """Send one dead letter; whether that succeeded."""
        event, cause = None, None
        try:
            data = await asyncio.to_thread(letter.data, self._settings.max_record_bytes)
        except ValueError:
            cause = f"RECORD_TOO_LARGE: it has more than {self._settings.max_record_bytes} bytes (max_record_bytes)"
        except disk.NoPlainFile:
            cause = "NO_PLAIN_FILE: the dead letter was replaced by something else"
        else:
            event, cause = map_record(self._mapper, agency_record(data, letter.origin))
        if event is not None:
            cause = refusal((await publish(task, self._settings.topic, [event], self._retry))[0])
        if cause is not None:
            await asyncio.to_thread(self._failed.fail_again, letter, cause)
            task.progress.dead_lettered += 1
            return False
        await asyncio.to_thread(self._failed.settle, letter, self._settings.done_directory)
        task.progress.moved(1, 0 if event is None else event.ByteSize())
        return True

    # -- blocking -------------------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        """Make what is missing of its own folders. Raises ConnectorFailed, OSError."""
        for finding in self._findings():
            raise ConnectorFailed(finding)
        for directory in (self._settings.done_directory, self._settings.failed_directory):
            directory.mkdir(mode=0o700, exist_ok=True)

    def _findings(self) -> list[str]:
        settings = self._settings
        found = disk.findings(settings.directory)
        for directory in (settings.done_directory, settings.failed_directory):
            # They are made at the start where their parent exists.
            found += disk.findings(directory) if directory.exists() else disk.findings(directory.parent)
        if not found and len({each.stat().st_dev for each in _existing(settings)}) > 1:
            found.append(
                f"{settings.directory}: done and failed must be on the same file system; choose others"
            )
        return list(dict.fromkeys(found))

    def _offsets(self) -> list[Offset]:
        settings = self._settings
        waiting = Watch(self._name, settings.directory, settings.format, 0).look()
        total_bytes = sum(each.state.size_bytes for each in waiting)
        found = [
            Offset({"directory": str(settings.directory)}, {"files": len(waiting), "bytes": total_bytes})
        ]
        at = self._checkpoints.read()
        if at is not None and any(each.name == at.name and each.state == at.state for each in waiting):
            found.append(Offset({"file": at.name}, {"line": at.line, "byte": at.byte}))
        return found

    def _alter(self, offsets: Sequence[Offset]) -> None:
        # What `offsets` tells of the directory is no place: taken back it changes nothing, and reset it forgets the place.
        whole = [each for each in offsets if set(each.partition) == {"directory"}]
        wanted = [each for each in offsets if each not in whole]
        if any(each.offset is None for each in whole):
            self._checkpoints.forget()
        if whole and not wanted:
            return None
        if len(wanted) != 1 or set(wanted[0].partition) != {"file"}:
            raise ValueError('give one offset, of partition {"file": NAME}')
        name, offset = str(wanted[0].partition["file"]), wanted[0].offset
        watch = Watch(self._name, self._settings.directory, self._settings.format, 0)
        waiting = {each.name: each for each in watch.look()}.get(name)
        if waiting is None or waiting.form != "jsonl":
            raise ValueError(f"{name}: is no JSONL file that waits to be sent")
        if offset is None:
            return self._checkpoints.forget()
        line = offset.get("line")
        if not isinstance(line, int) or line < 0:
            raise ValueError('an offset is {"line": n}, the number of lines that are dealt with')
        with PieceReader(
            self._settings.directory / name, waiting.form, self._settings.max_record_bytes
        ) as reader:
            byte = reader.pass_over(line)
            self._checkpoints.write(Checkpoint(name, line, byte, reader.state))
        return None


@dataclass(frozen=True, slots=True)
class FileSourcePlugin:
    """`plugin = "file-source"`."""

    direction: Direction = "source"
    settings: type[ConnectorSettings] = FileSourceSettings

    def make(self, name: str, settings: Any, directory: Path) -> FileSource:
        """See Plugin."""
        return FileSource(name, settings, directory)


PLUGIN = FileSourcePlugin()


def _existing(settings: FileSourceSettings) -> list[Path]:
    wanted = (settings.directory, settings.done_directory, settings.failed_directory)
    return [each for each in wanted if each.exists()]


def _tell_lag(task: TaskContext, waiting: Sequence[Waiting]) -> None:
    oldest_ns = min((each.state.modified_ns for each in waiting), default=None)
    task.progress.lag_records = len(waiting)
    task.progress.lag_s = 0.0 if oldest_ns is None else max(0.0, time.time() - oldest_ns / 1e9)


async def _pause(gate: Gate, seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(gate.changed(), seconds)
