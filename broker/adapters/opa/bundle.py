"""The two bundles of one OPA child: the revision's own, and the private one that guards the server."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Mapping

import orjson

from broker.errors import RulebookRefused
from broker.model.data_file import DataRefused, parse_yaml
from broker.model.rulebook import Revision

RULEBOOK_ROOTS = ("agencies", "data", "entente")
"""The only documents that a revision may define; OPA refuses a bundle that reaches beyond its roots."""

_GUARD = b"""# Lets the broker ask for decisions, and nobody do anything else.
package system.authz

default allow := false

allow if {
	crypto.sha256(input.identity) == data.token.sha256
	input.method == "POST"
	input.path == ["v1", "data", "entente", "decision", "decisions"]
	object.keys(input.params) - {"metrics"} == {"provenance"}
}
"""


def rulebook_bundle(revision: Revision, *, with_tests: bool = False) -> bytes:
    """The revision as an OPA bundle (tar.gz), the same bytes for the same revision.

    Raises RulebookRefused for a data file that is no plain YAML.
    """
    return _archive(_manifest(revision.id, RULEBOOK_ROOTS) | _modules(revision, with_tests) | _data(revision))


def modules_bundle(revision: Revision, *, with_tests: bool) -> bytes:
    """As `rulebook_bundle`, without the data, which takes longest and which compiling does not look at."""
    return _archive(_manifest(revision.id, RULEBOOK_ROOTS) | _modules(revision, with_tests))


def _modules(revision: Revision, with_tests: bool) -> dict[str, bytes]:
    return {
        path: content
        for path, content in revision.files.items()
        if path.endswith(".rego") and (with_tests or not path.endswith("_test.rego"))
    }


def _data(revision: Revision) -> dict[str, bytes]:
    """The data as JSON. It is parsed here, so that the broker and OPA cannot read a file differently."""
    findings: list[str] = []
    files: dict[str, bytes] = {}
    for path, content in sorted(revision.files.items()):
        if path.startswith("data/"):
            try:
                files[path.removesuffix(".yaml") + ".json"] = orjson.dumps(parse_yaml(content))
            except DataRefused as error:
                findings.append(f"{path}: {error}")
    if findings:
        raise RulebookRefused(tuple(findings))
    return files


def guard_bundle(token: str) -> bytes:
    """A bundle whose `system.authz` lets the bearer of `token` POST to the decisions document, and nothing else.

    It holds the token's hash only, so neither the file nor a module that reads `data.token` gives the token away.
    """
    data = orjson.dumps({"sha256": hashlib.sha256(token.encode()).hexdigest()})
    files = {"system/authz.rego": _GUARD, "token/data.json": data}
    return _archive(_manifest("guard", ("system", "token")) | files)


def _manifest(revision: str, roots: tuple[str, ...]) -> dict[str, bytes]:
    return {".manifest": orjson.dumps({"revision": revision, "roots": roots, "rego_version": 1})}


def _archive(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=1, mtime=0, filename="") as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):
        for path in sorted(files):
            entry = tarfile.TarInfo(f"/{path}")
            entry.size = len(files[path])
            archive.addfile(entry, io.BytesIO(files[path]))
    return buffer.getvalue()
