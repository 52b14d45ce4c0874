"""The door: what was looked at is not looked at again while somebody waits."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from broker.adapters.opa import OpaCompiler
from broker.adapters.sqlite.rulebook_store import SqliteRulebookStore
from broker.app.rulebook import RulebookDoor
from broker.core.rulebook.load import read_rulebook, revision_of
from broker.errors import RulebookRefused
from broker.model.rulebook import Revision
from tests.fakes.rulebook import ROOT

pytestmark = pytest.mark.opa
EXTRA = "agencies/ems/extra.rego"


class Runs:
    """Counts what OPA is run for: compiling, by revision, and parsing, by path."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.compiled: Counter[str] = Counter()
        self.parsed: Counter[str] = Counter()
        compiling, parsing = OpaCompiler.compile, OpaCompiler.parse

        def compile_counted(compiler: OpaCompiler, revision: Revision) -> Sequence[str]:
            self.compiled[revision.id] += 1
            return compiling(compiler, revision)

        def parse_counted(compiler: OpaCompiler, path: str, source: bytes) -> Mapping[str, object]:
            self.parsed[path] += 1
            return parsing(compiler, path, source)

        monkeypatch.setattr(OpaCompiler, "compile", compile_counted)
        monkeypatch.setattr(OpaCompiler, "parse", parse_counted)


def with_module(source: bytes) -> Revision:
    keys = {
        f"keys/{agency}.jwks.json": b'{"keys": []}'
        for agency in ("cyber-centre", "ems", "exchange", "highway-patrol", "partner-cert", "transport")
    }
    return revision_of({**read_rulebook(ROOT / "policy").files, **keys, EXTRA: source})


async def test_a_revision_is_checked_once_and_of_the_next_only_what_is_new_is_parsed(
    tmp_path: Path, opa_binary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = Runs(monkeypatch)
    first = with_module(b'package agencies.ems\n\ndeny contains "never" if false\n')
    second = with_module(b'package agencies.ems\n\ndeny contains "ever" if false\n')
    store = await SqliteRulebookStore.open(tmp_path)
    try:
        await store.put(first)
        await store.put(second)
        door = RulebookDoor(opa_binary, store)
        await door.stored(first.id)
        _, prepared = await asyncio.gather(door.look_ahead(second.id), door.stored(second.id))
        assert prepared.revision == second and "ems" in prepared.registry.agencies
    finally:
        await store.close()
    assert runs.compiled == {first.id: 1, second.id: 1}
    assert runs.parsed.pop(EXTRA) == 2
    assert set(runs.parsed.values()) == {1}
    assert not [path for path in runs.parsed if path.endswith("_test.rego")]


async def test_what_is_refused_ahead_is_refused_to_whoever_waits(tmp_path: Path, opa_binary: Path) -> None:
    wrong = with_module(b"package entente.decision\n")
    store = await SqliteRulebookStore.open(tmp_path)
    try:
        await store.put(wrong)
        door = RulebookDoor(opa_binary, store)
        found = await asyncio.gather(door.look_ahead(wrong.id), door.stored(wrong.id), return_exceptions=True)
    finally:
        await store.close()
    assert all(isinstance(each, RulebookRefused) and EXTRA in each.findings[0] for each in found)


async def test_a_directory_is_not_taken_with_a_denial_in_a_file_of_tests(
    tmp_path: Path, opa_binary: Path
) -> None:
    """No instance loads it, and nobody has looked at it before."""
    files = {
        **with_module(b"package agencies.ems\n").files,
        "agencies/ems/x_test.rego": b"package agencies.ems\n",
    }
    directory = tmp_path / "rulebook"
    for path, content in files.items():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_bytes(content)
    store = await SqliteRulebookStore.open(tmp_path)
    try:
        with pytest.raises(RulebookRefused) as refused:
            await RulebookDoor(opa_binary, store).from_directory(directory)
        assert await store.list() == []
    finally:
        await store.close()
    assert "agencies/ems/x_test.rego:1: declares package" in refused.value.findings[0]
