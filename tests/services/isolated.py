"""Runs a program where only named packages can be imported: python -I -S isolated.py PACKAGES FOLDERS PROGRAM ARGUMENTS…

PACKAGES: the top-level names that may be imported beside the standard library, separated by commas. FOLDERS: where they lie,
separated by colons. Stands alone on purpose, since it can import nothing of the project.
"""

from __future__ import annotations

import importlib.abc
import runpy
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType


class Refuser(importlib.abc.MetaPathFinder):
    """Answers before all other finders that there is no such module."""

    def __init__(self, permitted: frozenset[str]) -> None:
        self._permitted = permitted | sys.stdlib_module_names

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """None: the next finder is asked."""
        top = fullname.partition(".")[0]
        # The standard library's record of how Python was built is named after the platform.
        if top in self._permitted or top.startswith("_sysconfigdata"):
            return None
        raise ModuleNotFoundError(f"{fullname} is not among the declared dependencies", name=fullname)


if __name__ == "__main__":
    packages, folders, program, *arguments = sys.argv[1:]
    sys.meta_path.insert(0, Refuser(frozenset(packages.split(","))))
    sys.path[:0] = folders.split(":")
    sys.argv = [program, *arguments]
    runpy.run_path(program, run_name="__main__")
