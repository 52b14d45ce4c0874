"""The two bundles of one OPA child: the revision's own, and the private one that guards the server."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import orjson

from broker.adapters.opa.index import INDEX_ROOT, DataIndex
from broker.errors import RulebookRefused
from broker.model.data_file import DataRefused, parse_yaml
from broker.model.rulebook import Revision

RULEBOOK_ROOTS = ("agencies", "data", "entente", INDEX_ROOT)
"""The only documents that a bundle of a revision may define; OPA refuses one that reaches beyond its roots."""

_FINDINGS_LIMIT = 100
_Entry = tuple[str, bytes]

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


@dataclass(frozen=True, slots=True)
class PackedData:
    """A revision's data as it stands in each of its bundles, made once for all of them; and the index of it.

    size_bytes: of both, before they were compressed.
    """

    data: bytes
    index: bytes
    size_bytes: int


def pack_data(revision: Revision) -> PackedData:
    """The data, as JSON. Raises RulebookRefused for a data file that is no plain YAML. Blocking."""
    index = DataIndex()
    sizes: list[int] = []
    data = _packed(_data(revision, index, sizes))
    document = index.document()
    packed = _packed([(f"{INDEX_ROOT}/data.json", document)])
    return PackedData(data, packed, sum(sizes) + len(document))


def rulebook_bundle(revision: Revision, data: PackedData | None = None, *, with_tests: bool = False) -> bytes:
    """The revision as an OPA bundle (tar.gz), the same bytes for the same revision.

    It holds an index of the data, unless it holds tests: these replace data, of which an index would not know.
    data: as `pack_data` made it. Raises RulebookRefused as that does.
    """
    data = data or pack_data(revision)
    index = b"" if with_tests else data.index
    return _rules(revision, with_tests) + data.data + index + _END


def modules_bundle(revision: Revision, *, with_tests: bool) -> bytes:
    """As `rulebook_bundle`, without the data, which takes longest and which compiling does not look at."""
    return _rules(revision, with_tests) + _END


def _rules(revision: Revision, with_tests: bool) -> bytes:
    return _packed([_manifest(revision.id, RULEBOOK_ROOTS), *_modules(revision, with_tests)])


def _modules(revision: Revision, with_tests: bool) -> Iterator[_Entry]:
    for path, content in sorted(revision.files.items()):
        if path.endswith(".rego") and (with_tests or not path.endswith("_test.rego")):
            yield path, content


def _data(revision: Revision, index: DataIndex, sizes: list[int]) -> Iterator[_Entry]:
    """The data as JSON, a file at a time: a large rulebook's is never in memory as a whole.

    It is parsed here, so that the broker and OPA cannot read a file differently. Adds to `index` and `sizes`.
    """
    findings: list[str] = []
    for path in sorted(path for path in revision.files if path.startswith("data/")):
        try:
            value = parse_yaml(revision.files[path])
        except DataRefused as error:
            findings.append(f"{path}: {error}")
            if len(findings) == _FINDINGS_LIMIT:
                break
            continue
        index.add(path, value)
        document = orjson.dumps(value)
        sizes.append(len(document))
        yield path.removesuffix(".yaml") + ".json", document
    if findings:
        raise RulebookRefused(tuple(findings))


def guard_bundle(token: str) -> bytes:
    """A bundle whose `system.authz` lets the bearer of `token` POST to the decisions document, and nothing else.

    It holds the token's hash only, so neither the file nor a module that reads `data.token` gives the token away.
    """
    data = orjson.dumps({"sha256": hashlib.sha256(token.encode()).hexdigest()})
    manifest = _manifest("guard", ("system", "token"))
    return _packed([manifest, ("system/authz.rego", _GUARD), ("token/data.json", data)]) + _END


def _manifest(revision: str, roots: tuple[str, ...]) -> _Entry:
    return ".manifest", orjson.dumps({"revision": revision, "roots": roots, "rego_version": 1})


def _packed(entries: Iterable[_Entry]) -> bytes:
    """Entries of a tar archive, compressed: a part of one, since parts that were compressed apart may be joined."""
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=1, mtime=0, filename="") as packed:
        for path, content in entries:
            entry = tarfile.TarInfo(f"/{path}")
            entry.size = len(content)
            packed.write(entry.tobuf(tarfile.USTAR_FORMAT))
            packed.write(content)
            packed.write(bytes(-len(content) % tarfile.BLOCKSIZE))
    return buffer.getvalue()


_END = gzip.compress(bytes(2 * tarfile.BLOCKSIZE), compresslevel=1, mtime=0)
"""The end of an archive: two empty blocks (POSIX.1-2024, pax, ustar interchange format)."""
