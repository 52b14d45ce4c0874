"""Runs what an audit command does, and turns whatever ends it into one line and an exit code."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from connectors.cli.failures import CommandFailed, ExitCode, complain

_T = TypeVar("_T")


def run(work: Coroutine[Any, Any, _T]) -> _T:
    """The work's result. Raises CommandFailed."""
    from broker.adapters.export.writer import ExportRefused
    from broker.adapters.keyring import KeysRefused
    from broker.app.ledger_sources import LedgerNotFound
    from broker.core.audit.proofs import ProofRefused
    from broker.core.audit.replay import EngineLost
    from broker.errors import LedgerRefused, RulebookRefused, StorageUnavailable

    try:
        return asyncio.run(work)
    except (LedgerNotFound, KeysRefused) as error:
        raise CommandFailed(str(error), ExitCode.USAGE) from None
    except LedgerRefused as error:
        for finding in error.findings[:-1]:
            complain(finding)
        raise CommandFailed(
            error.findings[-1] if error.findings else str(error), ExitCode.FAULTS_FOUND
        ) from None
    except (ExportRefused, ProofRefused) as error:
        raise CommandFailed(str(error), ExitCode.REFUSED) from None
    except LookupError as error:
        if type(error) is not LookupError:  # a KeyError or IndexError is a fault of this program
            raise
        raise CommandFailed(str(error), ExitCode.REFUSED) from None
    except (EngineLost, RulebookRefused) as error:
        raise CommandFailed(str(error)) from None
    except StorageUnavailable as error:
        raise CommandFailed(str(error), ExitCode.UNAVAILABLE) from None
    except BrokenPipeError:
        raise
    except OSError as error:
        raise CommandFailed(f"{error.filename or 'a file'}: {error.strerror or error}") from None


def read_file(path: Path, option: str, limit_bytes: int) -> bytes:
    """A file that was named; raises CommandFailed (usage), also for one that is larger than it can be."""
    try:
        with path.open("rb") as file:
            content = file.read(limit_bytes + 1)
    except OSError as error:
        raise CommandFailed(f"{option}: {path}: {error.strerror}; correct the path", ExitCode.USAGE) from None
    if len(content) > limit_bytes:
        message = f"{option}: {path}: larger than {limit_bytes} bytes; name another file"
        raise CommandFailed(message, ExitCode.USAGE)
    return content


def write_private(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, for its owner's eyes only, over one of that name. Raises CommandFailed."""
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise CommandFailed(f"{path}: {error.strerror}; choose another place") from None
