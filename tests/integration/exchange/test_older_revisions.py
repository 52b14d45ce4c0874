"""Record topics replayed under a revision that is not in force any more, by an OPA of its own that ends with the replay."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import yaml

from broker.adapters.sqlite.rulebook_store import SqliteRulebookStore
from broker.core.rulebook.load import read_rulebook, revision_of
from broker.model.rulebook import Revision
from protos.entente.v1 import ledger_pb2
from tests.integration.exchange.live import Live, running_live
from tests.integration.exchange.records import crash
from tests.integration.exchange.test_auditing import replay, replay_failure
from tests.services.processes import children

pytestmark = [pytest.mark.opa, pytest.mark.asyncio(loop_scope="session")]
PARAMEDIC = ledger_pb2.ReplaySubject(
    agency="ems", roles=["paramedic"], attributes={"clearance": "red"}, purpose="emergency-response"
)


def end_agreement(directory: Path) -> None:
    """From now on ems receives nothing of the highway patrol."""
    path = directory / "rulebook" / "data" / "agreements" / "highway-patrol" / "data.yaml"
    agreements = yaml.safe_load(path.read_text())
    del agreements["ems-crash-reports"]
    path.write_text(yaml.safe_dump(agreements))
    configuration = directory / "entente.toml"
    insecure = "[rulebook]\ninsecure_from_directory = true\n"
    configuration.write_text(configuration.read_text().replace("[rulebook]\n", insecure))


async def test_what_somebody_saw_under_an_older_revision(tmp_path: Path, opa_binary: Path) -> None:
    directory = tmp_path / "exchange"
    record = crash('{"a": 1}')
    async with running_live(directory, opa_binary) as live:
        older = live.ready.revision
        await live.caller("highway-patrol").publish_all("crash-reports", record)
        assert await ids(live, older) == [record.id]

    await asyncio.to_thread(end_agreement, directory)
    async with running_live(directory, opa_binary) as live:
        assert live.ready.revision != older
        running = children()
        assert await ids(live, "") == await ids(live, live.ready.revision) == []
        assert await ids(live, older) == [record.id]
        assert children() == running
        about = live.ledger("ledger_read")[-1]["query"]["about"]
        assert (about["revision"], about["topic"]) == (older, "crash-reports")


async def test_a_revision_that_would_not_pass_the_door_is_not_run(tmp_path: Path, opa_binary: Path) -> None:
    """Whoever can write the store could otherwise have the exchange run anything."""
    directory = tmp_path / "exchange"
    async with running_live(directory, opa_binary) as live:
        older = live.ready.revision
    refused = await asyncio.to_thread(forged, directory / "rulebook")
    store = await SqliteRulebookStore.open(directory / "data")
    await store.put(refused)
    await store.close()
    async with running_live(directory, opa_binary) as live:
        assert live.ready.revision == older
        running = children()
        failure = await replay_failure(live.caller("auditor-1"), seen_by=PARAMEDIC, revision=refused.id)
        assert failure.reason == "REVISION_NOT_FOUND"
        assert children() == running


def forged(rulebook: Path) -> Revision:
    """A revision in which an agency's module looks at the agreements of all."""
    files = dict(read_rulebook(rulebook).files)
    module = files["agencies/ems/module.rego"]
    files["agencies/ems/module.rego"] = module.replace(
        b"package agencies.ems", b"package agencies.ems\n\nimport data.data.agreements"
    )
    return revision_of(files)


async def ids(live: Live, revision: str) -> list[str]:
    found = await replay(live.caller("auditor-1"), seen_by=PARAMEDIC, revision=revision)
    return [each.delivery.record.id for each in found]
