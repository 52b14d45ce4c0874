"""Makes a directory of configuration, keys and certificates whole or not at all, and private."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from broker.app.pki import Credential


class InitialiseRefused(Exception):
    """Nothing was made; one line: what is in the way, and what to do."""


@contextlib.contextmanager
def new_directory(directory: Path) -> Iterator[Path]:
    """A private directory to fill, which takes the place of `directory` if the block succeeds, else disappears.

    Raises InitialiseRefused if there is one that is not empty, or if writing fails.
    """
    target = directory.absolute()
    try:
        _refuse_occupied(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        with _built_beside(target) as building:
            yield building
            for made in (building, *(path for path in building.rglob("*") if path.is_dir())):
                _sync_directory(made)
    except OSError as error:
        raise InitialiseRefused(
            f"{target}: cannot be made: {error.strerror}; choose another directory"
        ) from None


def write_credential(stem: Path, credential: Credential) -> None:
    """The certificate and its private key, as `<stem>.pem` and `<stem>.key`."""
    write_new(stem.with_name(f"{stem.name}.pem"), credential.certificate_pem, private=False)
    write_new(stem.with_name(f"{stem.name}.key"), credential.key_pem, private=True)


def write_new(path: Path, content: bytes, *, private: bool) -> None:
    """Create and make durable; O_EXCL so that nothing is followed or replaced."""
    descriptor = os.open(
        path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600 if private else 0o644
    )
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)


def _refuse_occupied(target: Path) -> None:
    if target.is_symlink() or (target.exists() and (not target.is_dir() or any(target.iterdir()))):
        raise InitialiseRefused(
            f"{target}: exists and is not an empty directory; choose another, or remove it"
        )


@contextlib.contextmanager
def _built_beside(target: Path) -> Iterator[Path]:
    building = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".unfinished", dir=target.parent))
    try:
        yield building
        # POSIX rename(2) replaces an empty directory and refuses any other, so nothing is ever overwritten.
        building.rename(target)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    _sync_directory(target.parent)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
