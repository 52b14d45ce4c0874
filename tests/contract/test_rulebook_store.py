"""The contract of the rulebook store, which every backend keeps."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from broker.errors import StorageUnavailable
from broker.model.rulebook import Revision, revision_id
from broker.ports.rulebook_store import RulebookReader, RulebookStore
from tests.contract.backend import Backend


@pytest.fixture
async def store(backend: Backend) -> AsyncIterator[RulebookStore]:
    opened = await backend.open_rulebook_store()
    yield opened
    await opened.close()


def revision(number: int, *, time_dependent: bool = False) -> Revision:
    files = {
        "entente/decision/decision.rego": f"package entente.decision\n# {number}\n".encode(),
        "data/agencies/ems/data.yaml": "name: Ärzte\n".encode(),
        "manifest.yaml": f"time_dependent: {str(time_dependent).lower()}\n".encode(),
        "empty": b"",
        "binary": bytes(range(256)) * 400,
    }
    return Revision(revision_id(files), files, time_dependent)


@pytest.mark.parametrize("time_dependent", [False, True])
async def test_a_revision_comes_back_as_it_was(store: RulebookStore, time_dependent: bool) -> None:
    new = revision(1, time_dependent=time_dependent)
    await store.put(new)
    assert await store.get(new.id) == new


async def test_a_large_revision_comes_back_as_it_was(store: RulebookStore) -> None:
    """Larger than any message, and than what is under way to a store at once."""
    small = revision(1)
    files = {**small.files, "data/agreements/a/data.yaml": bytes(range(256)) * 32_768}
    new = Revision(revision_id(files), files, False)
    await store.put(new)
    assert await store.get(new.id) == new
    assert list(await store.list()) == [new.id]


async def test_an_unknown_revision_is_nothing(store: RulebookStore) -> None:
    assert await store.get(revision(1).id) is None
    assert await store.get("") is None
    assert list(await store.list()) == []


async def test_ids_are_listed_in_the_order_of_first_storing(store: RulebookStore) -> None:
    revisions = [revision(n) for n in range(5)]
    for new in [*revisions, revisions[0], revisions[2]]:
        await store.put(new)
    assert list(await store.list()) == [new.id for new in revisions]


async def test_an_id_that_is_not_the_hash_is_refused(store: RulebookStore) -> None:
    new = revision(1)
    for wrong in (revision(2).id, new.id.upper(), "", new.id.removeprefix("sha256:")):
        with pytest.raises(ValueError, match="hash"):
            await store.put(replace(new, id=wrong))
    with pytest.raises(ValueError, match="hash"):
        await store.put(replace(new, files={**new.files, "more": b""}))
    assert list(await store.list()) == []


async def test_revisions_survive_reopening(backend: Backend) -> None:
    store = await backend.open_rulebook_store()
    for number in range(3):
        await store.put(revision(number))
    await store.close()
    await store.close()
    store = await backend.open_rulebook_store()
    assert list(await store.list()) == [revision(n).id for n in range(3)]
    assert await store.get(revision(1).id) == revision(1)
    await store.close()


async def test_tampered_content_is_never_returned(backend: Backend) -> None:
    kept, tampered = revision(1), revision(2)
    store = await backend.open_rulebook_store()
    await store.put(kept)
    await store.put(tampered)
    await store.close()
    await backend.tamper_with_rulebook(
        tampered.id, "entente/decision/decision.rego", b"package entente.decision\n"
    )
    store = await backend.open_rulebook_store()
    with pytest.raises(ValueError, match="does not match"):
        await store.get(tampered.id)
    assert await store.get(kept.id) == kept
    await store.close()


async def test_a_reader_finds_revisions_beside_the_store_and_after_it(backend: Backend) -> None:
    store = await backend.open_rulebook_store()
    reader: RulebookReader | None = None
    try:
        await store.put(revision(1))
        reader = await backend.open_rulebook_reader()
        assert await reader.get(revision(1).id) == revision(1)
        await store.put(revision(2))
        assert list(await reader.list()) == [revision(1).id, revision(2).id]
        assert await reader.get(revision(3).id) is None
    finally:
        await store.close()
        if reader is not None:
            await reader.close()
    reader = await backend.open_rulebook_reader()
    assert await reader.get(revision(2).id) == revision(2)
    await reader.close()


async def test_manifests_are_kept_in_order_each_once_and_apart(backend: Backend) -> None:
    store = await backend.open_rulebook_store()
    await store.put(revision(1))
    for note in (b"first\n", b"second\n", b"first\n"):
        await store.put_manifest(revision(1).id, note)
    await store.put_manifest(revision(2).id, b"first\n")
    await store.close()
    store = await backend.open_rulebook_store()
    assert list(await store.manifests(revision(1).id)) == [b"first\n", b"second\n"]
    assert list(await store.manifests(revision(2).id)) == [b"first\n"]
    assert list(await store.manifests(revision(3).id)) == []
    assert list(await store.list()) == [revision(1).id]
    assert await store.get(revision(1).id) == revision(1)
    await store.close()


async def test_a_reader_of_nothing_says_so_and_makes_nothing(backend: Backend) -> None:
    for _ in range(2):  # the second would find what the first made
        with pytest.raises(StorageUnavailable):
            await (await backend.open_rulebook_reader()).list()
