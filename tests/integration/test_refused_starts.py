"""What an exchange does not start with is said in one line that names the file."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import grpc
import pytest

from broker.adapters.keyring import KeysRefused, new_key_file
from broker.adapters.sqlite.rulebook_store import SqliteRulebookStore
from broker.app.config import Config, load_config
from broker.app.initialise import initialise
from broker.app.server import running
from broker.core.checkpoint.note import VerifierKey
from broker.core.rulebook.manifest import manifest_origin, verified_manifest
from broker.errors import LedgerRefused, RulebookRefused, StorageUnavailable
from protos.entente.v1 import catalog_pb2, catalog_pb2_grpc
from tests.services.broker import ENTENTE
from tests.services.ledger_file import ledger_entries
from tests.services.ports import free_port

pytestmark = pytest.mark.opa


@pytest.fixture
def config(tmp_path: Path, opa_binary: Path) -> Config:
    made = initialise(tmp_path / "exchange", f"127.0.0.1:{free_port(2)}")
    read = load_config(made.config)
    return read.model_copy(update={"rulebook": read.rulebook.model_copy(update={"opa": opa_binary})})


@pytest.mark.parametrize("content", ["another key", "no key at all"])
async def test_a_key_that_is_not_the_certificates_is_named(config: Config, content: str) -> None:
    other = config.tls.key.with_name("ca.key").read_text()
    config.tls.key.write_text(other if content == "another key" else content)

    with pytest.raises(OSError, match="not the key of tls") as refused:
        async with running(config):
            pass

    assert refused.value.filename == str(config.tls.key)


async def test_a_key_that_others_may_read_is_refused(config: Config) -> None:
    config.tls.key.chmod(0o640)

    with pytest.raises(KeysRefused, match="chmod 600"):
        async with running(config):
            pass


async def test_another_number_of_partitions_is_refused(config: Config) -> None:
    async with running(config):
        pass
    topics = config.rulebook.directory / "data/topics/data.yaml"
    topics.write_text(topics.read_text().replace("partitions: 3", "partitions: 4"))

    with pytest.raises(RulebookRefused) as refused:
        async with running(_from_directory(config)):
            pass

    (finding,) = refused.value.findings
    assert finding.startswith(
        "the instance 'broker' cannot prepare it: data/topics/data.yaml: topic 'crash-reports'"
    )


def _from_directory(config: Config) -> Config:
    """Each start activates the directory."""
    rulebook = config.rulebook.model_copy(update={"insecure_from_directory": True})
    return config.model_copy(update={"rulebook": rulebook})


async def test_an_edited_directory_changes_nothing_by_itself(
    config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(config) as ready:
        first = ready.revision
    topics = config.rulebook.directory / "data/topics/data.yaml"
    topics.write_text(topics.read_text() + "\n# a remark\n")
    async with running(config) as ready:
        assert ready.revision == first
    assert "propose it with 'entente rulebook propose'" in caplog.text
    caplog.clear()
    async with running(_from_directory(config)) as ready:
        second = ready.revision
        assert second != first and "rulebook.insecure_from_directory" in ready.warnings
    assert "INSECURE: rulebook.insecure_from_directory" in caplog.text
    async with running(config) as ready:
        assert ready.revision == second
    assert config.backend.data_dir is not None
    entries = ledger_entries(config.backend.data_dir.parent, "rulebook_changed")
    changes = [cast(dict[str, object], entry.body["change"]) for entry in entries]
    assert [(change["what"], change["revision"]) for change in changes] == [
        ("genesis", first),
        ("activated", second),
    ]
    listed = cast(dict[str, list[str]], changes[0]["administrators"])
    assert listed["exchange"] == listed["ems"] == ["admin-1", "admin-2"]
    store = await SqliteRulebookStore.open(config.backend.data_dir)
    try:
        (note,) = await store.manifests(first)
    finally:
        await store.close()
    (key,) = [
        VerifierKey.parse(line) for line in (config.keys.directory / "ledger.vkey").read_text().splitlines()
    ]
    manifest = verified_manifest(note, [key.named(manifest_origin(config.exchange.name))])
    assert (manifest.revision, manifest.parent, manifest.author) == (first, None, None)


async def test_without_the_control_log_of_an_exchange_that_served_nothing_starts(config: Config) -> None:
    """It would take the directory's revision, and forget every suspension."""
    assert config.backend.data_dir is not None
    lost = config.backend.data_dir / "control.db"
    async with running(config) as ready:
        first = ready.revision
    lost.unlink()
    async with running(config) as ready:
        assert ready.revision == first, "nothing but starts was in the ledger"
        with closing(sqlite3.connect(lost)) as connection:
            assert connection.execute("SELECT count(*) FROM entries").fetchone()[0] >= 3
        address = ready.tls_address
        authority = (config.backend.data_dir.parent / "tls" / "ca.pem").read_bytes()
        async with grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(authority)) as channel:
            with pytest.raises(grpc.aio.AioRpcError):
                await catalog_pb2_grpc.CatalogStub(channel).WhoAmI(catalog_pb2.WhoAmIRequest())
    lost.unlink()
    with pytest.raises(StorageUnavailable, match="the control log is empty"):
        async with running(config):
            pass
    anew = config.model_copy(
        update={"control": config.control.model_copy(update={"insecure_begin_anew": True})}
    )
    async with running(anew) as ready:
        assert "control.insecure_begin_anew" in ready.warnings


async def test_without_the_revision_in_force_nothing_starts(config: Config) -> None:
    async with running(config) as ready:
        revision = ready.revision
    assert config.backend.data_dir is not None
    (config.backend.data_dir / "rulebooks.db").unlink()
    with pytest.raises(RulebookRefused, match=f"revision {revision} is not in the store"):
        async with running(config):
            pass


def _change_ledger(config: Config, statement: str) -> None:
    """As somebody does who may write the file, past its triggers."""
    assert config.backend.data_dir is not None
    with closing(sqlite3.connect(config.backend.data_dir / "ledger.db")) as connection, connection:
        names = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall()
        for (name,) in names:
            connection.execute(f"DROP TRIGGER {name}")
        assert connection.execute(statement).rowcount > 0


async def _started_twice(config: Config) -> None:
    for _ in range(2):
        async with running(config):
            pass


async def test_a_ledger_that_was_changed_is_refused_with_its_place_and_nothing_is_served(
    config: Config, tmp_path: Path
) -> None:
    await _started_twice(config)
    _change_ledger(
        config,
        "UPDATE entries SET openings = CAST(replace(openings, 'start', 'stalk') AS BLOB) WHERE number = 2",
    )

    with pytest.raises(LedgerRefused) as refused:
        async with running(config):
            pass

    (finding,) = refused.value.findings
    assert finding.startswith("instance broker, entry 2: ")
    command = [ENTENTE, "serve", "--config", tmp_path / "exchange" / "entente.toml"]
    served = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=60, check=False
    )
    assert served.returncode == 1
    assert served.stdout == ""
    assert served.stderr.splitlines()[-1] == f"entente: the ledger was refused: {finding}"


async def test_a_ledger_that_went_back_behind_its_checkpoints_is_refused(config: Config) -> None:
    await _started_twice(config)
    _change_ledger(config, "DELETE FROM entries WHERE number = 2")

    with pytest.raises(LedgerRefused, match="entry 2: it is missing, and a checkpoint covers 3 entries"):
        async with running(config):
            pass


async def test_a_start_names_the_key_and_a_change_of_it_is_announced(
    config: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await _started_twice(config)
    keys = config.keys.directory / "ledger.keys"
    listed = json.loads(keys.read_text())
    listed += [{**json.loads(new_key_file(1_900_000_000_000))[0], "id": 1}]
    keys.write_text(json.dumps(listed))
    await _started_twice(config)
    entries = ledger_entries(tmp_path / "exchange")
    kinds = ["configuration", "rulebook_changed", "configuration"]
    kinds += ["key_rotated", "configuration", "configuration"]
    assert [entry.kind for entry in entries] == kinds
    public = (config.keys.directory / "ledger.vkey").read_text().split()
    change = entries[3].body["change"]
    assert isinstance(change, dict)
    assert change["from"] == {"id": 0, "key": public[0]}
    starts = [cast(dict[str, Any], entry.body["start"]) for entry in entries if entry.kind == "configuration"]
    assert [start["keys"]["ledger"] for start in starts] == [0, 0, 1, 1]
    assert [start["ledger_key"] for start in starts[:2]] == [public[0]] * 2
    assert starts[2]["ledger_key"] == starts[3]["ledger_key"] == cast(dict[str, Any], change["to"])["key"]
    assert [start["epoch"] for start in starts] == [1, 2, 3, 4]
    assert {start["instance"] for start in starts} == {"broker"}
    told = [each.message for each in caplog.records if "ledger.vkey lacks the key" in each.message]
    assert len(told) == 2
    assert told[0].endswith(f"add the line {starts[2]['ledger_key']}")


async def test_an_exchange_that_is_open_twice_is_refused_and_the_first_goes_on(config: Config) -> None:
    async with running(config) as first:
        with pytest.raises(StorageUnavailable, match="is in use by the process"):
            async with running(config):
                pass
        assert not first.fenced.done()
