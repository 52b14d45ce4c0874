"""What a file sink has promised: the exchange's cursor, and the steps on files that belong to it.

One small file beside the records, replaced as a whole. Its replacement is the moment at which a commit counts: before it,
what was prepared is thrown away at the next start; after it, the steps are done again, as often as it takes.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, Self

from connectors.delivery import Start
from connectors.files.disk import NoPlainFile, read_whole, write_whole
from connectors.runtime.model import ConnectorFailed
from connectors.runtime.places import decode_place, encode_place

NAME = ".entente-connect.json"
_MOST_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Step:
    """`put`: give a prepared file its name; `remove`: take a file away. Names lie in `folder`."""

    kind: Literal["put", "remove"]
    folder: Literal["records", "notices"]
    name: str
    prepared: str = ""

    def __post_init__(self) -> None:
        """Raises ValueError for anything but plain names: what is read from disk leads nowhere else."""
        if self.kind not in ("put", "remove") or self.folder not in ("records", "notices"):
            raise ValueError("no step")
        if any("/" in name or name in (".", "..") for name in (self.name, self.prepared)) or not self.name:
            raise ValueError("no plain name")


@dataclass(frozen=True, slots=True)
class State:
    """place: where to go on; None: never begun. commit: counts. segment: the number of the JSONL file that is being
    written, size_bytes and lines what of it counts, since_s when it was begun."""

    topic: str
    subscription: str
    place: Start | None = None
    commit: int = 0
    steps: tuple[Step, ...] = ()
    segment: int = 1
    size_bytes: int = 0
    lines: int = 0
    since_s: float = 0.0

    def next_segment(self) -> Self:
        """With an empty one."""
        return replace(self, segment=self.segment + 1, size_bytes=0, lines=0)


class Journal:
    """The state on disk. Blocking."""

    def __init__(self, directory: Path, topic: str, subscription: str) -> None:
        self._path = directory / NAME
        self._new = State(topic, subscription)

    def read(self) -> State:
        """Raises OSError, and ConnectorFailed for a directory that is somebody else's or not understood."""
        try:
            found = _decoded(json.loads(read_whole(self._path, _MOST_BYTES)))
        except FileNotFoundError:
            return self._new
        except (NoPlainFile, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            remedy = "restore it; or delete it, and then records may come twice"
            raise ConnectorFailed(f"{self._path}: cannot be understood; {remedy}", lasting=True) from None
        if (found.topic, found.subscription) != (self._new.topic, self._new.subscription):
            whose = f"subscription {found.subscription} of topic {found.topic}"
            remedy = "give each subscription a directory of its own"
            raise ConnectorFailed(f"{self._path}: the directory belongs to {whose}; {remedy}", lasting=True)
        return found

    def write(self, state: State) -> None:
        """Durable when it returns. Raises OSError, and then the old one holds."""
        encoded = asdict(state) | {"place": None if state.place is None else encode_place(state.place)}
        write_whole(self._path, [json.dumps(encoded).encode()])


def _decoded(found: Any) -> State:
    if not isinstance(found, dict) or set(found) != {each.name for each in fields(State)}:
        raise ValueError("no state")
    numbers = [int(found[name]) for name in ("commit", "segment", "size_bytes", "lines")]
    if min(numbers) < 0:
        raise ValueError("a negative number")
    commit, segment, size_bytes, lines = numbers
    return State(
        topic=str(found["topic"]),
        subscription=str(found["subscription"]),
        place=None if found["place"] is None else decode_place(found["place"]),
        commit=commit,
        steps=tuple(Step(**step) for step in found["steps"]),
        segment=segment,
        size_bytes=size_bytes,
        lines=lines,
        since_s=float(found["since_s"]),
    )
