"""What lies in an export directory, and `export.json`, which describes it.

Everything is readable with ordinary tools: a line of `leaves/<instance>.jsonl` is an entry's leaf, the same line of
`openings/<instance>.jsonl` opens it (empty if that was erased), and a line of `checkpoints/<instance>.jsonl` is
`{"note", "frontier"}`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from broker.adapters.export.plain import read_plain
from broker.core.audit.segments import Segment
from broker.core.merkle.tree import CompactTree
from broker.errors import StorageUnavailable
from broker.model.ledger import StoredCheckpoint

FORMAT = "entente-export/1"
DESCRIPTION = "export.json"
TABLES = "ledger.sqlite"
KEYS = "ledger.vkey"

_DESCRIPTION_BYTES = 64 << 20
_INSTANCE = re.compile(r"[a-z0-9-]{1,32}")
_REVISION = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class ExportedInstance:
    """The part of one instance's ledger that an export holds: entries from `begin` to before `end`.

    base: the tree before the first of them. tail: what follows the last one, up to the newest checkpoint. cut: whether
    entries that follow were left out. Times in ms since 1970, None without entries.
    """

    origin: str
    begin: int
    end: int
    base: CompactTree
    tail: Segment | None
    cut: bool
    first_ms: int | None
    last_ms: int | None


@dataclass(frozen=True, slots=True)
class Description:
    """The content of `export.json`."""

    exchange: str
    since_ms: int | None
    until_ms: int | None
    instances: dict[str, ExportedInstance] = field(default_factory=dict)
    revisions: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    def encode(self) -> bytes:
        """As it is written."""
        document = {
            "format": FORMAT,
            "exchange": self.exchange,
            "since_ms": self.since_ms,
            "until_ms": self.until_ms,
            "instances": {name: _encode_instance(part) for name, part in self.instances.items()},
            "revisions": list(self.revisions),
            "missing": list(self.missing),
        }
        return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)

    @classmethod
    def read(cls, directory: Path) -> Description:
        """Raises StorageUnavailable unless the directory is an export of this format."""
        path = directory / DESCRIPTION
        try:
            content = orjson.loads(read_plain(path, _DESCRIPTION_BYTES))
            if content["format"] != FORMAT:
                raise StorageUnavailable(
                    f"{path}: the format {str(content['format'])[:40]} is not {FORMAT}; use the version that wrote it"
                )
            instances = {_instance(name): _read_instance(part) for name, part in content["instances"].items()}
            return cls(
                str(content["exchange"]),
                content["since_ms"],
                content["until_ms"],
                instances,
                tuple(map(_revision, content["revisions"])),
                tuple(map(str, content["missing"])),
            )
        except OSError as error:
            raise StorageUnavailable(f"{path} cannot be read: {error.strerror}; name an export") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StorageUnavailable(f"{path} is not what an export has; export again") from error


def leaves_of(directory: Path, instance: str) -> Path:
    """The file of an instance's leaves; as the others raises StorageUnavailable for what is no instance's name."""
    return _file(directory, "leaves", instance)


def openings_of(directory: Path, instance: str) -> Path:
    """The file of an instance's openings."""
    return _file(directory, "openings", instance)


def checkpoints_of(directory: Path, instance: str) -> Path:
    """The file of an instance's checkpoints."""
    return _file(directory, "checkpoints", instance)


def revision_directory(directory: Path, revision: str) -> Path:
    """The directory of a rulebook revision's files. Raises StorageUnavailable for what is no revision's id."""
    try:
        return directory / "revisions" / _revision(revision).replace(":", "-")
    except ValueError as error:
        raise StorageUnavailable(
            f"the ledger names a revision that cannot be one: {error}; verify it"
        ) from error


def encode_checkpoint(stored: StoredCheckpoint) -> bytes:
    """A line of the checkpoints' file."""
    return orjson.dumps({"note": stored.note.decode(), "frontier": [node.hex() for node in stored.frontier]})


def read_checkpoint(line: bytes) -> StoredCheckpoint:
    """What such a line says; one that is no such line gives a note that nobody has signed, for verification to tell."""
    try:
        content = orjson.loads(line)
        return StoredCheckpoint(
            content["note"].encode(), tuple(bytes.fromhex(node) for node in content["frontier"])
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return StoredCheckpoint(b"", ())


def _file(directory: Path, kind: str, instance: str) -> Path:
    # Names come from a ledger that nobody has checked yet, and none may lead out of the directory.
    try:
        return directory / kind / f"{_instance(instance)}.jsonl"
    except ValueError as error:
        raise StorageUnavailable(
            f"the ledger holds an instance that cannot be one: {error}; verify it"
        ) from error


def _instance(name: object) -> str:
    if not isinstance(name, str) or not _INSTANCE.fullmatch(name):
        raise ValueError(f"{str(name)[:40]!r} is no instance's name")
    return name


def _revision(name: object) -> str:
    if not isinstance(name, str) or not _REVISION.fullmatch(name):
        raise ValueError(f"{str(name)[:40]!r} is no revision's id")
    return name


def _encode_instance(part: ExportedInstance) -> dict[str, Any]:
    tail = part.tail
    return {
        "origin": part.origin,
        "begin": part.begin,
        "end": part.end,
        "frontier": [node.hex() for node in part.base.frontier],
        "tail": None if tail is None else {"size": tail.end, "subtrees": [s.hex() for s in tail.subtrees]},
        "cut": part.cut,
        "first_ms": part.first_ms,
        "last_ms": part.last_ms,
    }


def _read_instance(part: dict[str, Any]) -> ExportedInstance:
    begin, end, tail = int(part["begin"]), int(part["end"]), part["tail"]
    if not 0 <= begin <= end:
        raise ValueError("no range")
    segment = None
    if tail is not None:
        subtrees = tuple(bytes.fromhex(subtree) for subtree in tail["subtrees"])
        segment = Segment(end, int(tail["size"]), subtrees)
    return ExportedInstance(
        str(part["origin"]),
        begin,
        end,
        CompactTree(begin, [bytes.fromhex(node) for node in part["frontier"]]),
        segment,
        bool(part["cut"]),
        part["first_ms"],
        part["last_ms"],
    )
