"""What lies in an export directory, and `export.json`, which describes it.

Everything is readable with ordinary tools: a line of `leaves/<instance>.jsonl` is an entry's leaf, the same line of
`openings/<instance>.jsonl` opens it (empty if that was erased), and a line of `checkpoints/<instance>.jsonl` is
`{"note", "frontier"}`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from broker.core.audit.segments import Segment
from broker.core.merkle.tree import CompactTree
from broker.errors import StorageUnavailable
from broker.model.ledger import StoredCheckpoint

FORMAT = "entente-export/1"
DESCRIPTION = "export.json"
TABLES = "ledger.sqlite"
KEYS = "ledger.vkey"


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
            content = orjson.loads(path.read_bytes())
            if content["format"] != FORMAT:
                raise StorageUnavailable(
                    f"{path}: the format {str(content['format'])[:40]} is not {FORMAT}; use the version that wrote it"
                )
            instances = {str(name): _read_instance(part) for name, part in content["instances"].items()}
            return cls(
                str(content["exchange"]),
                content["since_ms"],
                content["until_ms"],
                instances,
                tuple(content["revisions"]),
                tuple(content["missing"]),
            )
        except OSError as error:
            raise StorageUnavailable(f"{path} cannot be read: {error.strerror}; name an export") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StorageUnavailable(f"{path} is not what an export has; export again") from error


def leaves_of(directory: Path, instance: str) -> Path:
    """The file of an instance's leaves."""
    return directory / "leaves" / f"{instance}.jsonl"


def openings_of(directory: Path, instance: str) -> Path:
    """The file of an instance's openings."""
    return directory / "openings" / f"{instance}.jsonl"


def checkpoints_of(directory: Path, instance: str) -> Path:
    """The file of an instance's checkpoints."""
    return directory / "checkpoints" / f"{instance}.jsonl"


def revision_directory(directory: Path, revision: str) -> Path:
    """The directory of a rulebook revision's files."""
    return directory / "revisions" / revision.replace(":", "-")


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
