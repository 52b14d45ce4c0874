"""Revisions as files for one run of the `opa` program."""

from __future__ import annotations

from pathlib import Path

from broker.adapters.opa.bundle import PackedData, modules_bundle, rulebook_bundle
from broker.model.rulebook import Revision

CAPABILITIES = "capabilities.json"
BUNDLE = "bundle.tar.gz"


def lay_out_modules(directory: Path, revision: Revision, *, with_tests: bool) -> None:
    """Write the modules as one bundle, with the revision's schemas and capabilities beside it. Blocking."""
    (directory / BUNDLE).write_bytes(modules_bundle(revision, with_tests=with_tests))
    _write_beside(directory, revision)


def lay_out(directory: Path, revision: Revision, data: PackedData, *, with_tests: bool = False) -> None:
    """As `lay_out_modules`, with the data. Blocking."""
    (directory / BUNDLE).write_bytes(rulebook_bundle(revision, data, with_tests=with_tests))
    _write_beside(directory, revision)


def _write_beside(directory: Path, revision: Revision) -> None:
    (directory / "schemas").mkdir()
    for path, content in revision.files.items():
        if path == CAPABILITIES or path.startswith("schemas/"):
            target = directory / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)


def inside(path: object) -> str:
    """A path that OPA names, as it is inside the rulebook."""
    return str(path).removeprefix("/")
