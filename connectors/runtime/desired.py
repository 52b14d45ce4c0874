"""What each connector is wanted to do, kept over restarts of the process."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Final

from connectors.runtime.directory import StateDirectoryRefused
from connectors.runtime.model import State

FILE = "state.json"
WANTED: Final = (State.RUNNING, State.PAUSED, State.STOPPED)
_VERSION = 1
_MOST_BYTES = 16 * 1024 * 1024


class DesiredStates:
    """The wanted state by connector; who is not named is to run."""

    def __init__(self, path: Path, states: dict[str, State]) -> None:
        self._path = path
        self._states = states

    @classmethod
    def read(cls, directory: Path) -> DesiredStates:
        """What is kept in a state directory. Raises StateDirectoryRefused: what was paused must not run by mistake."""
        path = directory / FILE
        try:
            text = path.read_bytes()[:_MOST_BYTES]
        except FileNotFoundError:
            return cls(path, {})
        except OSError as error:
            raise StateDirectoryRefused(
                f"{path}: {error.strerror}; make it readable for this process"
            ) from None
        try:
            return cls(path, _parsed(json.loads(text)))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise StateDirectoryRefused(
                f"{path}: cannot be understood, so what is paused or stopped is not known; "
                "restore it, or delete it to let every connector run"
            ) from None

    def of(self, name: str) -> State:
        """RUNNING, PAUSED or STOPPED."""
        return self._states.get(name, State.RUNNING)

    def set(self, name: str, wanted: State) -> None:
        """Keep it; durable when this returns. Raises OSError, and then nothing has changed."""
        if self.of(name) is wanted:
            return
        # Connectors of files that are not part of this run keep theirs.
        changed = self._states | {name: wanted}
        self._write(changed)
        self._states = changed

    def _write(self, states: dict[str, State]) -> None:
        text = json.dumps({"version": _VERSION, "connectors": dict(sorted(states.items()))}, indent=1) + "\n"
        written = self._path.with_name(f".{FILE}.new")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(written, flags, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        written.replace(self._path)
        directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _parsed(found: dict[str, object]) -> dict[str, State]:
    named = found["connectors"]
    if found["version"] != _VERSION or not isinstance(named, dict):
        raise ValueError("another version")
    states = {str(name): State(wanted) for name, wanted in named.items()}
    if not set(states.values()) <= set(WANTED):
        raise ValueError("no wanted state")
    return states
