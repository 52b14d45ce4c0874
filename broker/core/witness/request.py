"""The add-checkpoint request of C2SP tlog-witness: an old size, a consistency proof, an empty line, a checkpoint."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass

from broker.core.checkpoint.checkpoint import MAX_SIZE, Checkpoint, unverified_checkpoint
from broker.core.checkpoint.note import MAX_NOTE_BYTES, NoteInvalid, from_base64
from broker.core.merkle.hashing import HASH_BYTES

MAX_PROOF_LINES = 63
_OLD = re.compile(r"old (0|[1-9][0-9]{0,18})")
_LINE_BYTES = 64
MAX_REQUEST_BYTES = (MAX_PROOF_LINES + 1) * _LINE_BYTES + MAX_NOTE_BYTES
"""More than any request needs."""


class RequestInvalid(ValueError):
    """The request is not of the form that the text gives; one line, without content."""


@dataclass(frozen=True, slots=True)
class AddCheckpoint:
    """A request as it was sent, nothing of it verified: `checkpoint` is what the text of the signed note says."""

    old_size: int
    proof: tuple[bytes, ...]
    note: bytes
    checkpoint: Checkpoint

    @classmethod
    def parse(cls, body: bytes) -> AddCheckpoint:
        """Raises RequestInvalid."""
        head, blank, note = body.partition(b"\n\n")
        if not blank or len(body) > MAX_REQUEST_BYTES:
            raise RequestInvalid("a request is an old size, proof lines, an empty line and a checkpoint")
        try:
            first, *lines = head.decode("ascii").split("\n")
            checkpoint = unverified_checkpoint(note)
            proof = tuple(from_base64(line) for line in lines[: MAX_PROOF_LINES + 1])
        except UnicodeDecodeError as error:
            raise RequestInvalid("the lines before the checkpoint are ASCII") from error
        except NoteInvalid as error:
            raise RequestInvalid(str(error)) from error
        if len(proof) > MAX_PROOF_LINES or any(len(node) != HASH_BYTES for node in proof):
            raise RequestInvalid(f"a proof has at most {MAX_PROOF_LINES} lines, each a hash of 32 bytes")
        return cls(_old_size(first, checkpoint.size), proof, note, checkpoint)


def format_request(old_size: int, proof: tuple[bytes, ...], note: bytes) -> bytes:
    """The body of a request."""
    lines = [f"old {old_size}", *(base64.b64encode(node).decode() for node in proof), ""]
    return "".join(f"{line}\n" for line in lines).encode() + note


def _old_size(line: str, size: int) -> int:
    match = _OLD.fullmatch(line)
    if match is None or int(match[1]) > MAX_SIZE:
        raise RequestInvalid("a request begins with 'old' and a size in decimal digits without leading zeros")
    if int(match[1]) > size:
        raise RequestInvalid("the old size is above the checkpoint's")
    return int(match[1])
