"""Secret keys in files, as the Keys port: `cursor.keys`, `pseudonym.keys`, … for each use, in one directory.

Each file is a JSON array of {"id": 0..255, "key": base64 of 32 bytes, "created": RFC 3339, "retired": RFC 3339 | null}.
The current key is the newest that is not retired. To rotate, add a key; to end a key's use for new work, set `retired`;
keep it in the file as long as something that was made with it must be understood.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

USES = ("control", "cursor", "digest", "ledger", "pseudonym", "receipt")
KEY_BYTES = 32
FILE_LIMIT_BYTES = 256 * 1024


class KeysRefused(Exception):
    """A key file cannot be used; one line: file, what is wrong, what to do. Never a key."""


@dataclass(frozen=True, slots=True)
class _Key:
    id: int
    key: bytes
    created: datetime
    retired: datetime | None


class FileKeys:
    """Keys read once, at start; a changed file counts from the next start."""

    def __init__(self, keys: Mapping[str, tuple[_Key, ...]]) -> None:
        self._by_id = {(use, key.id): key.key for use, listed in keys.items() for key in listed}
        self._current = {use: _newest(listed) for use, listed in keys.items()}

    @classmethod
    def open(cls, directory: Path) -> FileKeys:
        """Read all files. Raises KeysRefused, also for a file that group or others may read or write."""
        return cls({use: _read_file(directory / f"{use}.keys") for use in USES})

    @classmethod
    def open_use(cls, path: Path, use: str) -> FileKeys:
        """The file of one use only, for who must not have the others. Raises KeysRefused."""
        return cls({use: _read_file(path)})

    def current(self, use: str) -> tuple[int, bytes]:
        """See Keys; `use` is one of USES."""
        key = self._current[use]
        return key.id, key.key

    def by_id(self, use: str, key_id: int) -> bytes | None:
        """A present or retired key, or None."""
        return self._by_id.get((use, key_id))


def new_key_file(now_ms: int) -> bytes:
    """The content of a key file with one fresh key."""
    created = datetime.fromtimestamp(now_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    key = base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()
    return json.dumps([{"id": 0, "key": key, "created": created, "retired": None}], indent=1).encode() + b"\n"


def _newest(keys: tuple[_Key, ...]) -> _Key:
    return max((key for key in keys if key.retired is None), key=lambda key: (key.created, key.id))


def read_private_file(path: Path, limit_bytes: int) -> bytes:
    """A secret file's content. Raises KeysRefused if it is absent, too large, no plain file, or open to other users."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise KeysRefused(f"{path}: cannot be read: {error.strerror}; make it with 'entente init'") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise KeysRefused(f"{path}: is no plain file; replace it")
        if status.st_mode & 0o077:
            raise KeysRefused(
                f"{path}: other users may read or write it; run 'chmod 600' on it, and rotate the key"
            )
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            content = file.read(limit_bytes + 1)
    finally:
        os.close(descriptor)
    if len(content) > limit_bytes:
        raise KeysRefused(f"{path}: larger than {limit_bytes} bytes; this is no key file")
    return content


def _read_file(path: Path) -> tuple[_Key, ...]:
    try:
        document = json.loads(read_private_file(path, FILE_LIMIT_BYTES))
        keys = tuple(_parse(entry) for entry in document)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        # The parser's own message could quote a key.
        raise KeysRefused(
            f"{path}: is not a list of id, key, created, retired; restore it from a backup"
        ) from None
    if len({key.id for key in keys}) != len(keys):
        raise KeysRefused(f"{path}: two keys have one id; give each its own from 0 to 255")
    if all(key.retired is not None for key in keys):
        raise KeysRefused(f"{path}: holds no key that is not retired; add a new one")
    return keys


def _parse(entry: Mapping[str, object]) -> _Key:
    key_id, text, retired = entry["id"], entry["key"], entry["retired"]
    if type(key_id) is not int or not 0 <= key_id <= 255 or not isinstance(text, str):
        raise ValueError
    key = base64.b64decode(text, validate=True)
    if len(key) != KEY_BYTES or set(entry) != {"id", "key", "created", "retired"}:
        raise ValueError
    return _Key(key_id, key, _moment(entry["created"]), None if retired is None else _moment(retired))


def _moment(value: object) -> datetime:
    if not isinstance(value, str):
        raise TypeError
    moment = datetime.fromisoformat(value)
    if moment.tzinfo is None:
        raise ValueError
    return moment
