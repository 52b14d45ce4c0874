"""Revisions as files for one run of the `opa` program."""

from __future__ import annotations

from pathlib import Path

import orjson

from broker.adapters.opa.bundle import RULEBOOK_ROOTS, rulebook_files
from broker.model.rulebook import Revision

CAPABILITIES = "capabilities.json"
BUNDLE = "bundle"


def lay_out(directory: Path, revision: Revision, *, with_tests: bool = False) -> None:
    """Write what OPA will load as a bundle in `bundle/`, with the revision's schemas and capabilities beside it.

    Raises RulebookRefused for a data file that is no plain YAML.
    """
    loaded = rulebook_files(revision, with_tests=with_tests)
    files = {f"{BUNDLE}/{path}": content for path, content in loaded.items()}
    files[f"{BUNDLE}/.manifest"] = orjson.dumps(
        {"revision": revision.id, "roots": RULEBOOK_ROOTS, "rego_version": 1}
    )
    for path, content in revision.files.items():
        if path == CAPABILITIES or path.startswith("schemas/"):
            files[path] = content
    for path, content in files.items():
        target = directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


def inside(path: object) -> str:
    """A path that OPA names, as it is inside the rulebook."""
    return str(path).removeprefix("./").removeprefix(f"{BUNDLE}/")
