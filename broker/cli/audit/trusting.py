"""What an auditor trusts, from files: public keys, and checkpoints that somebody else kept."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from broker.cli.audit.running import read_file
from broker.cli.failures import CommandFailed, ExitCode

if TYPE_CHECKING:
    from broker.core.audit.trust import Trust
    from broker.core.checkpoint.note import VerifierKey

_KEYS_BYTES = 1 << 20
_NOTES_BYTES = 256 << 20


def read_public_keys(paths: Sequence[Path], option: str) -> tuple[VerifierKey, ...]:
    """All keys of the files, one vkey on each line. Raises CommandFailed (usage)."""
    from broker.core.audit.trust import read_keys
    from broker.core.checkpoint.note import NoteInvalid

    found: list[VerifierKey] = []
    for path in paths:
        try:
            found += read_keys(read_file(path, option, _KEYS_BYTES).decode())
        except UnicodeDecodeError:
            raise CommandFailed(
                f"{option}: {path}: is no text; name a file of keys", ExitCode.USAGE
            ) from None
        except NoteInvalid as error:
            raise CommandFailed(f"{option}: {path}: {error}; name a file of keys", ExitCode.USAGE) from None
    return tuple(found)


def read_notes(paths: Sequence[Path], option: str) -> tuple[bytes, ...]:
    """The checkpoints of the files: each one signed note, or the lines that a file witness keeps. Raises CommandFailed."""
    from broker.core.checkpoint.checkpoint import Checkpoint
    from broker.core.checkpoint.note import NoteInvalid, SignedNote

    found: list[bytes] = []
    for path in paths:
        content = read_file(path, option, _NOTES_BYTES)
        try:
            notes = _lines_of_a_witness(content) if content.startswith(b"{") else [content]
            if not notes:
                raise ValueError  # an empty answer must not pass for a trusted one
            for note in notes:
                Checkpoint.parse(SignedNote.parse(note).text)
        except (NoteInvalid, ValueError, KeyError, TypeError, AttributeError) as error:
            what = str(error) if isinstance(error, NoteInvalid) else "is no signed checkpoint"
            message = f"{option}: {path}: {what}; name a checkpoint, or a witness's file"
            raise CommandFailed(message, ExitCode.USAGE) from None
        found += notes
    return tuple(found)


def trust_of(
    public_key: Sequence[Path] | None, after: Sequence[Path] | None, witness_key: Sequence[Path] | None
) -> Trust:
    """What the options of `entente audit verify` name. Raises CommandFailed (usage)."""
    from broker.core.audit.trust import Trust

    return Trust(
        keys=read_public_keys(public_key or (), "--public-key"),
        after=read_notes(after or (), "--after"),
        witnesses=read_public_keys(witness_key or (), "--witness-key"),
    )


def _lines_of_a_witness(content: bytes) -> list[bytes]:
    """The notes of a file witness, in order; what a crash left unfinished at the end does not count."""
    *whole, last = content.split(b"\n")
    notes = [json.loads(line)["note"].encode() for line in whole if line.strip()]
    if last.strip():
        with contextlib.suppress(ValueError, KeyError):
            notes.append(json.loads(last)["note"].encode())
    return notes
