"""What an auditor trusts, from files: public keys, and checkpoints that somebody else kept."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from broker.cli.audit.running import read_file
from connectors.cli.failures import CommandFailed, ExitCode, complain

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


def read_witness_keys(paths: Sequence[Path]) -> tuple[VerifierKey, ...]:
    """As `read_public_keys`, of --witness-key; another kind of key would make every checkpoint look like a forgery."""
    from broker.core.checkpoint.note import COSIGNATURE_V1

    keys = read_public_keys(paths, "--witness-key")
    for key in keys:
        if key.algorithm != COSIGNATURE_V1:
            message = f"--witness-key: {key.text()} cosigns nothing; name the keys of witnesses"
            raise CommandFailed(message, ExitCode.USAGE)
    return keys


def read_notes(paths: Sequence[Path], option: str) -> tuple[bytes, ...]:
    """The checkpoints of the files: each one signed note, or the lines that a file witness keeps. Raises CommandFailed."""
    from broker.core.checkpoint.checkpoint import unverified_checkpoint
    from broker.core.checkpoint.note import NoteInvalid

    found: list[bytes] = []
    for path in paths:
        content = read_file(path, option, _NOTES_BYTES)
        try:
            notes = _lines_of_a_witness(path, content) if content.startswith(b"{") else [content]
            if not notes:
                raise ValueError  # an empty answer must not pass for a trusted one
            for note in notes:
                unverified_checkpoint(note)
        except (NoteInvalid, ValueError, KeyError, TypeError, AttributeError) as error:
            what = str(error) if isinstance(error, NoteInvalid) else "is no signed checkpoint"
            message = f"{option}: {path}: {what}; name a checkpoint, or a witness's file"
            raise CommandFailed(message, ExitCode.USAGE) from None
        found += notes
    return tuple(found)


def trust_of(
    public_key: Sequence[Path] | None,
    after: Sequence[Path] | None,
    witness_key: Sequence[Path] | None,
    instances: Sequence[str] | None = None,
) -> Trust:
    """What the options of `entente audit verify` name. Raises CommandFailed (usage)."""
    from broker.core.audit.trust import Trust

    return Trust(
        keys=read_public_keys(public_key or (), "--public-key"),
        after=read_notes(after or (), "--after"),
        witnesses=read_witness_keys(witness_key or ()),
        instances=tuple(instances or ()),
    )


def _lines_of_a_witness(path: Path, content: bytes) -> list[bytes]:
    """The notes of a file witness, in order. A line that a crash left unfinished does not count, and that is said."""
    notes: list[bytes] = []
    lines = [line for line in content.split(b"\n") if line.strip()]
    for line in lines:
        with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
            notes.append(json.loads(line)["note"].encode())
    if notes and len(notes) < len(lines):
        complain(f"{path}: {len(lines) - len(notes)} of {len(lines)} lines are unfinished and do not count")
    return notes
