"""How far a source has come in the file that it is sending, kept on disk, so that a large one does not start anew.

An older checkpoint, or none, does no harm: what is sent again has the same ids.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from connectors.files.disk import FileState, NoPlainFile, read_whole, write_hint

_FILE = "checkpoint.json"
_MOST_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Lines and bytes of a file, in a certain state, that are dealt with."""

    name: str
    line: int
    byte: int
    state: FileState


class Checkpoints:
    """The checkpoint in a connector's directory. Blocking."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / _FILE

    def read(self) -> Checkpoint | None:
        """None also if what is there cannot be understood, as after a power cut."""
        try:
            found = json.loads(read_whole(self._path, _MOST_BYTES))
            state = FileState(**{each.name: int(found["state"][each.name]) for each in fields(FileState)})
            return Checkpoint(str(found["name"]), int(found["line"]), int(found["byte"]), state)
        except (
            FileNotFoundError,
            NoPlainFile,
            ValueError,
            TypeError,
            KeyError,
            AttributeError,
            RecursionError,
        ):
            return None

    def write(self, checkpoint: Checkpoint) -> None:
        """Raises OSError."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_hint(self._path, json.dumps(asdict(checkpoint)).encode())

    def forget(self) -> None:
        """The file is dealt with, or to be sent from its beginning. Raises OSError."""
        self._path.unlink(missing_ok=True)
