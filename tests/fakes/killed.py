"""A process that ends after any of its changes of the disk, as kill -9 would have it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import Any

import pytest


class Killed(BaseException):
    """Like kill -9: no `except` of the program sees it."""


@contextmanager
def killed_at(step: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The process ends right after its `step`-th change of the disk; yields how many there were."""
    done = [0]
    one_at_a_time = RLock()  # one of these operations may use another

    def counted(name: str, real: Any) -> Any:
        def operation(*arguments: Any, **options: Any) -> Any:
            with one_at_a_time:
                if done[0] >= step:  # another thread of a process that is dead
                    raise Killed(name)
                result = real(*arguments, **options)
                done[0] += 1
            if done[0] >= step:
                if name == "open":
                    os.close(result)
                raise Killed(name)
            return result

        return operation

    with monkeypatch.context() as patched:
        for name in ("fsync", "open"):
            patched.setattr(f"connectors.files.disk.os.{name}", counted(name, getattr(os, name)))
        for name in ("rename", "replace", "unlink"):
            patched.setattr(Path, name, counted(name, getattr(Path, name)))
        yield done
