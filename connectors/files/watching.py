"""Which files of a directory are ready to be sent."""

from __future__ import annotations

import logging
import os
import stat
import time
from dataclasses import dataclass
from pathlib import Path

from connectors.files.disk import FileState
from connectors.files.settings import Form

log = logging.getLogger(__name__)

_FORMS: dict[str, Form] = {".json": "json", ".jsonl": "jsonl"}
_UNFINISHED = (".tmp", ".part")
_MOST_WARNINGS = 1_000


@dataclass(frozen=True, slots=True)
class Waiting:
    """A file that is to be sent; ready: it has not changed for long enough."""

    name: str
    form: Form
    state: FileState
    ready: bool


class Watch:
    """Looks at a directory again and again. Blocking: belongs in a thread."""

    def __init__(self, connector: str, directory: Path, form: Form | None, quiet_s: float) -> None:
        self._connector = connector
        self._directory = directory
        self._form = form
        self._quiet_s = quiet_s
        self._since: dict[str, tuple[FileState, float]] = {}
        self._warned: set[str] = set()

    def look(self) -> list[Waiting]:
        """The files that are there, by name. Raises OSError."""
        now_s = time.monotonic()
        with os.scandir(self._directory) as entries:
            found = [waiting for entry in entries if (waiting := self._waiting(entry, now_s)) is not None]
        self._since = {each.name: self._since[each.name] for each in found}
        return sorted(found, key=lambda each: each.name)

    def changed(self, name: str) -> None:
        """It changed while it was read: wait anew until it is quiet."""
        self._since.pop(name, None)

    def _waiting(self, entry: os.DirEntry[str], now_s: float) -> Waiting | None:
        name = entry.name
        form = _FORMS.get(Path(name).suffix)
        if (
            form is None
            or self._form not in (None, form)
            or name.startswith(".")
            or name.endswith(_UNFINISHED)
        ):
            return None
        if not name.isprintable():  # which half a character is not, either
            self._warn(name, "has a name with control characters or no text; rename it")
            return None
        try:
            status = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            return None
        if not stat.S_ISREG(status.st_mode):
            self._warn(name, "is no plain file; put a copy of what it stands for there")
            return None
        state = FileState.of(status)
        known, since_s = self._since.get(name, (None, now_s))
        if known != state:
            since_s = now_s
        self._since[name] = (state, since_s)
        return Waiting(name, form, state, now_s - since_s >= self._quiet_s)

    def _warn(self, name: str, why: str) -> None:
        if name not in self._warned and len(self._warned) < _MOST_WARNINGS:
            self._warned.add(name)
            log.warning("connector %s: %s is not sent: it %s", self._connector, ascii(name), why)
