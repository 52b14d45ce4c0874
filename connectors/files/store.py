"""Where the file sink keeps deliveries, each exactly once, whenever it is killed.

A commit takes whole batches and the cursor after them:

1. Files are written under names of this commit, and lines behind the end of the segment that counts; all are made durable.
2. The journal is replaced: from now on the records count, and the cursor with them.
3. The files are given their names; a full segment is given its own.

At the start, what the journal names is finished, and whatever else was prepared is taken away. That holds as well when the
agency has taken finished files away meanwhile: only prepared ones tell what is left to do.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from connectors.delivery import Delivery, Start
from connectors.files import disk
from connectors.files.encoding import encode, notice_name, record_name
from connectors.files.journal import Journal, State, Step
from connectors.files.settings import FileSinkSettings
from connectors.runtime.model import ConnectorFailed

_PREPARED = ".entente-"
_WRITERS = 8
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(slots=True)
class _Commit:
    """What one commit consists of."""

    steps: list[Step] = field(default_factory=list)
    files: list[tuple[Path, bytes]] = field(default_factory=list)
    lines: list[bytes] = field(default_factory=list)


class FileStore:
    """One sink's directory. Blocking: belongs in a thread, one call at a time."""

    def __init__(self, settings: FileSinkSettings, subscription: str) -> None:
        self._settings = settings
        self._folders = {"records": settings.directory, "notices": settings.notices_directory}
        self._journal = Journal(settings.directory, settings.topic, subscription)
        self._state = State(settings.topic, subscription)

    @property
    def place(self) -> Start | None:
        """Where to go on in the topic; None: never begun."""
        return self._state.place

    def open(self) -> None:
        """Finish what was begun. Raises ConnectorFailed, OSError."""
        self._folders["notices"].mkdir(mode=0o700, exist_ok=True)
        self._state = self._journal.read()
        self._perform()
        self._settle_segment()
        self._tidy()

    def read(self) -> Start | None:
        """The place as it is on disk, without opening. Raises ConnectorFailed, OSError."""
        return self._journal.read().place

    def move(self, place: Start) -> None:
        """Go on somewhere else. Raises OSError."""
        self._write(replace(self._state, place=place, steps=()))

    def store(self, deliveries: Sequence[Delivery], cursor: bytes) -> None:
        """Keep whole batches, and the cursor after them. Raises ConnectorFailed, OSError: then `open` says what counts."""
        commit = _Commit()
        number = self._state.commit + 1
        for delivery in deliveries:
            self._prepare(commit, number, delivery)
        state = replace(self._state, place=cursor, commit=number, steps=tuple(commit.steps))
        self._write_files(commit.files)
        if commit.lines:
            state = self._append(state, commit.lines)
        for folder in {step.folder for step in commit.steps}:
            disk.sync(self._folders[folder])
        self._write(state)
        self._perform()
        self.close_segment()

    def close_segment(self, *, now: bool = False) -> None:
        """Give the segment its name if it is full, or old enough, or if that is wanted. Raises OSError."""
        state, settings = self._state, self._settings
        full = state.lines >= settings.segment_records or state.size_bytes >= settings.segment_bytes
        if not state.lines or not (now or full or not 0 <= time.time() - state.since_s < settings.segment_s):
            return
        final = self._folders["records"] / self._segment_name(state.segment)
        if final.exists():
            raise ConnectorFailed(f"{final}: has appeared there; take it away, and the file is finished")
        self._segment_path.rename(final)
        disk.sync(final.parent)
        self._write(state.next_segment())

    # -- step 1 ---------------------------------------------------------------------------------------------------

    def _prepare(self, commit: _Commit, number: int, delivery: Delivery) -> None:
        if delivery.notice is not None:
            self._put(
                commit, number, Step("put", "notices", notice_name(delivery.notice) + ".json"), delivery
            )
        elif self._settings.format == "jsonl":
            commit.lines.append(encode(delivery))
        elif delivery.withdrawal is not None:
            name = record_name(delivery.withdrawal.source, delivery.withdrawal.id)
            if self._settings.withdrawn == "remove":
                commit.steps.append(Step("remove", "records", name + ".json"))
            self._put(commit, number, Step("put", "records", name + ".withdrawn.json"), delivery)
        elif delivery.record is not None:
            name = record_name(delivery.record.source, delivery.record.id)
            self._put(commit, number, Step("put", "records", name + ".json"), delivery)

    def _put(self, commit: _Commit, number: int, step: Step, delivery: Delivery) -> None:
        # No commit's name is another's: after a kill those of one that does not count are told from those that do.
        prepared = f"{_PREPARED}{number}-{len(commit.steps)}{disk.TEMPORARY}"
        commit.files.append((self._folders[step.folder] / prepared, encode(delivery)))
        commit.steps.append(replace(step, prepared=prepared))

    def _write_files(self, files: Sequence[tuple[Path, bytes]]) -> None:
        """Several at once: file systems make what waits at the same time durable together, measured 4 times faster."""
        mode = self._settings.file_mode

        def write(file: tuple[Path, bytes]) -> None:
            disk.write_aside(file[0].parent, file[0].name, [file[1]], mode)

        with ThreadPoolExecutor(_WRITERS) as writers:
            for _ in writers.map(write, files):
                pass

    def _append(self, state: State, lines: Sequence[bytes]) -> State:
        """Write behind the end that counts; what lies behind it is left from a commit that does not."""
        if not state.lines:
            state = self._begin_segment(state)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        path = self._prepared_segment(state.segment)
        with os.fdopen(os.open(path, flags, self._settings.file_mode), "r+b", buffering=0) as file:
            os.fchmod(file.fileno(), self._settings.file_mode)
            file.truncate(state.size_bytes)
            file.seek(state.size_bytes)
            written = b"".join(lines)
            size_bytes = 0
            while size_bytes < len(written):
                size_bytes += file.write(written[size_bytes:]) or 0
            os.fsync(file.fileno())
        disk.sync(path.parent)
        return replace(state, size_bytes=state.size_bytes + len(written), lines=state.lines + len(lines))

    def _begin_segment(self, state: State) -> State:
        """Numbers of files that are there, from a directory whose journal was lost, are passed over."""
        while (self._folders["records"] / self._segment_name(state.segment)).exists():
            state = state.next_segment()
        return replace(state, since_s=time.time(), size_bytes=0)

    # -- steps 2 and 3 --------------------------------------------------------------------------------------------

    def _write(self, state: State) -> None:
        self._journal.write(state)
        self._state = state

    def _perform(self) -> None:
        """What the journal names and is not done yet."""
        for step in self._state.steps:
            folder = self._folders[step.folder]
            if step.kind == "remove":
                (folder / step.name).unlink(missing_ok=True)
            elif (folder / step.prepared).exists():
                (folder / step.prepared).replace(folder / step.name)
        for name in {step.folder for step in self._state.steps}:
            disk.sync(self._folders[name])

    def _settle_segment(self) -> None:
        """One that is not there any more was complete, and got its name."""
        if not self._state.lines:
            return
        try:
            size_bytes = self._segment_path.lstat().st_size
        except FileNotFoundError:
            self._state = self._state.next_segment()
            return
        if size_bytes < self._state.size_bytes:
            remedy = "restore the directory; or delete its hidden files, and then records may come twice"
            raise ConnectorFailed(f"{self._segment_path}: has lost lines; {remedy}", lasting=True)

    def _tidy(self) -> None:
        """Take away what was prepared and does not count."""
        counts = self._segment_path.name if self._state.lines else ""
        for folder in self._folders.values():
            for path in folder.iterdir():
                if (
                    path.name.startswith(_PREPARED)
                    and path.name.endswith(disk.TEMPORARY)
                    and path.name != counts
                ):
                    path.unlink()

    @property
    def _segment_path(self) -> Path:
        return self._prepared_segment(self._state.segment)

    def _prepared_segment(self, number: int) -> Path:
        return self._folders["records"] / f"{_PREPARED}segment-{number}{disk.TEMPORARY}"

    def _segment_name(self, number: int) -> str:
        return f"{_UNSAFE.sub('-', self._settings.topic).lstrip('.')}-{number:08}.jsonl"
