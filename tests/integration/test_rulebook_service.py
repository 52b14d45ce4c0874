"""The rulebook's life over gRPC: proposed, approved by another, activated, seen by a subscriber, rolled back.

And what an agency learns of that which is not its business: nothing, byte by byte.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import orjson
import pytest
import pytest_asyncio
import yaml

from broker.adapters.keyring import FileKeys
from broker.app.config import load_config
from broker.app.initialise import DEFAULT_RULEBOOK
from broker.core.ledger.signing import LedgerKeys
from broker.core.rulebook.archive import read_files
from broker.core.rulebook.manifest import manifest_origin, verified_manifest
from broker.core.rulebook.pack import pack
from connectors.administering import Administering
from connectors.client import Client
from connectors.errors import EntenteClientError
from protos.entente.v1 import rulebook_pb2 as pb
from tests.integration.exchange.live import PEOPLE, Live, Person, running_live
from tests.integration.exchange.records import crash

# What is examined waits for everything else on the machine.
pytestmark = [pytest.mark.opa, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="session")]

AGREEMENTS = "data/agreements/highway-patrol/data.yaml"
ADMINISTRATORS = {
    "exchange-1": Person("exchange", "admin-1", "exchange-admin", "exchange-administration", "clear"),
    "exchange-2": Person("exchange", "admin-2", "exchange-admin", "exchange-administration", "clear"),
    "auditor": Person("exchange", "auditor-1", "auditor", "exchange-administration", "clear"),
    "owner-1": Person("highway-patrol", "admin-1", "agency-admin", "law-enforcement", "red"),
    "owner-2": Person("highway-patrol", "admin-2", "agency-admin", "law-enforcement", "red"),
    "owner-3": Person("highway-patrol", "admin-3", "agency-admin", "law-enforcement", "red"),
    "consumer": Person("transport", "admin-1", "agency-admin", "road-safety-statistics", "amber"),
    "ems": Person("ems", "admin-1", "agency-admin", "emergency-response", "red"),
    "nobody": Person("ems", "paramedic-1", "paramedic", "emergency-response", "red"),
}
MISSING = ("ffffffffff", "sha256:" + 64 * "e")
OPEN = pb.PROPOSAL_STATE_OPEN


class Desk:
    """Everybody's view of the service."""

    def __init__(self, live: Live, clients: Mapping[str, Client], folder: Path) -> None:
        self.live = live
        self._clients = clients
        self._folder = folder

    def of(self, name: str) -> Administering:
        return self._clients[name].rulebook

    async def pull(self, name: str, **which: str) -> dict[str, bytes]:
        """The files that this administrator is shown."""
        archive = self._folder / f"{name}.tar.gz"
        with archive.open("wb") as file:
            await self.of(name).pull(file, **which)
        return read_files(archive)

    async def propose(self, name: str, files: Mapping[str, bytes], **heading: str) -> list[pb.Proposal]:
        """All that is answered."""
        archive = self._folder / f"{name}-proposed.tar.gz"
        with archive.open("wb") as file:
            pack(files, file)
        sent = self.of(name).propose(archive, heading.pop("message", "why"), **heading)
        return [proposal async for proposal in sent]

    async def world(self, name: str) -> list[bytes]:
        """All that this administrator can ask without knowing an id, byte by byte."""
        of, archive = self.of(name), io.BytesIO()
        first = await of.pull(archive)
        messages = [
            await of.status(),
            *await of.log(),
            *await of.proposals(closed=True),
            *await of.diff(),
            first,
        ]
        return [archive.getvalue(), *(message.SerializeToString(deterministic=True) for message in messages)]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def desk(tmp_path_factory: pytest.TempPathFactory, opa_binary: Path) -> AsyncIterator[Desk]:
    folder = tmp_path_factory.mktemp("rulebook")
    rulebook = folder / "rulebook"
    # Not its cases: they say that the agreement is there.
    shutil.copytree(DEFAULT_RULEBOOK, rulebook, ignore=shutil.ignore_patterns("*.py", "__pycache__", "cases"))
    async with (
        running_live(folder / "exchange", opa_binary, rulebook=rulebook) as live,
        AsyncExitStack() as stack,
    ):
        stack.enter_context(mock.patch.dict(PEOPLE, ADMINISTRATORS))
        clients = {}
        for name in ADMINISTRATORS:
            client = Client(
                live.ready.tls_address,
                token=live.token(name),
                ca_file=folder / "exchange" / "tls" / "ca.pem",
            )
            clients[name] = await stack.enter_async_context(client)
        yield Desk(live, clients, folder)


async def refusal(asked: Any) -> EntenteClientError:
    """The error with which a call, or an async iterator, ends."""
    with pytest.raises(EntenteClientError) as error:
        await asked
    return error.value


def without_transport(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The department of transport is to receive nothing of the highway patrol any more."""
    agreements = yaml.safe_load(files[AGREEMENTS])
    del agreements["transport-crash-statistics"]
    return {**files, AGREEMENTS: yaml.safe_dump(agreements, sort_keys=False).encode()}


async def test_the_life_of_a_change_and_what_others_learn_of_it(desk: Desk) -> None:
    """One long story, since each examination takes seconds."""
    exchange, owner, second = desk.of("exchange-1"), desk.of("owner-1"), desk.of("owner-2")
    strangers = {name: await desk.world(name) for name in ("ems", "consumer")}
    first = (await exchange.status()).revision

    files = await desk.pull("owner-1")
    stored, checked = await desk.propose("owner-1", without_transport(files), message="it ended")
    assert not stored.HasField("check")
    assert (checked.id, checked.state, checked.message) == (stored.id, OPEN, "it ended")
    assert [(area.kind, area.owner) for area in checked.areas] == [("agreement", "highway-patrol")]
    assert list(checked.missing) == ["approval-missing: highway-patrol"]
    await _nobody_else_learns_of_it(desk, checked, strangers)
    await _only_others_approve(desk, checked)

    shown = await second.proposal(checked.id)
    assert [(each.how, each.name) for each in shown.changes] == [
        ("removed", "highway-patrol/transport-crash-statistics")
    ]
    approved = await second.approve(checked.id, shown.revision)
    assert ([each.by.subject for each in approved.approvals], list(approved.missing)) == (["admin-2"], [])

    publisher, reader = desk.live.caller("highway-patrol"), desk.live.caller("transport")
    async with reader.stream("crash-reports") as stream:
        await stream.opened()
        before = crash("{}")
        await publisher.publish_all("crash-reports", before)
        assert await stream.ids(1) == [before.id]
        done = await owner.activate(checked.id)
        assert done.revision == shown.revision
        await publisher.publish_all("crash-reports", crash("{}"))
        assert (await stream.failure()).reason in {"POLICY_DENIED", "TOPIC_NOT_FOUND"}
    assert (await owner.activate(checked.id)).revision == done.revision, "again changes nothing"
    assert (await refusal(second.approve(checked.id, shown.revision))).reason == "PROPOSAL_CLOSED"

    for name, known in strangers.items():
        assert await desk.world(name) == known
    await _who_did_it_is_known(desk, checked, first)
    await _back_again(desk, first)


async def _nobody_else_learns_of_it(
    desk: Desk, proposal: pb.Proposal, strangers: Mapping[str, list[bytes]]
) -> None:
    """A hidden proposal is a missing one, for whoever asks whatever of it."""
    known_ids = (proposal.id, proposal.revision, proposal.parent)
    for name, known in strangers.items():
        for ask in (
            lambda of, id, revision: of.proposal(id),
            lambda of, id, revision: of.approve(id, revision),
            lambda of, id, revision: of.reject(id, "no"),
            lambda of, id, revision: of.activate(id),
            lambda of, id, revision: of.pull(io.BytesIO(), proposal=id),
            lambda of, id, revision: of.pull(io.BytesIO(), revision=revision),
            lambda of, id, revision: of.diff(revision),
        ):
            hidden = await refusal(ask(desk.of(name), proposal.id, proposal.revision))
            missing = await refusal(ask(desk.of(name), *MISSING))
            assert _without(hidden, known_ids) == _without(missing, MISSING)
        assert (await refusal(desk.of(name).diff(proposal.parent))).reason == "REVISION_NOT_FOUND"
        assert await desk.world(name) == known
    for call in (desk.of("nobody").proposal(proposal.id), desk.of("nobody").status()):
        assert (await refusal(call)).reason == "ADMINISTRATION_DENIED"


def _without(error: EntenteClientError, ids: tuple[str, ...]) -> tuple[str, str, str, Mapping[str, str]]:
    """All of an answer but the ids that were asked for, and its reference."""
    message = error.message
    for each in ids:
        message = message.replace(each, "…")
    return error.reason, error.code, message, error.metadata


async def _only_others_approve(desk: Desk, proposal: pb.Proposal) -> None:
    """Not the author, not somebody whom the rulebook does not list, not another version; nothing goes without."""
    owner, second = desk.of("owner-1"), desk.of("owner-2")
    assert (await refusal(owner.approve(proposal.id, proposal.revision))).reason == "PROPOSAL_OWN"
    assert (await refusal(owner.activate(proposal.id))).reason == "APPROVAL_MISSING"
    assert (await refusal(second.approve(proposal.id, proposal.parent))).reason == "PROPOSAL_CHANGED"
    for name in ("owner-3", "exchange-1", "auditor"):
        found = await refusal(desk.of(name).approve(proposal.id, await _shown_as(desk, name, proposal.id)))
        assert found.reason == "ADMINISTRATION_DENIED", name


async def _shown_as(desk: Desk, name: str, proposal: str) -> str:
    """Under which id this administrator knows the proposal's revision."""
    if name == "owner-3":
        return ""
    return (await desk.of(name).proposal(proposal)).revision


async def _who_did_it_is_known(desk: Desk, proposal: pb.Proposal, first: str) -> None:
    """To those who see all, signed; and in the ledger, each step before it was taken."""
    newest, oldest = await desk.of("auditor").log()
    assert (newest.proposal, newest.message, oldest.revision) == (proposal.id, "it ended", first)
    assert (newest.author.subject, newest.activated_by.subject) == ("admin-1", "admin-1")
    assert [each.by.subject for each in newest.approvals] == ["admin-2"]
    exchange = load_config(desk.live.directory / "entente.toml").exchange.name
    keys = LedgerKeys(FileKeys.open(desk.live.directory / "keys"), exchange)
    (note,) = newest.manifests
    signed_by = [key.named(manifest_origin(exchange)) for key in keys.known]
    manifest = verified_manifest(note.encode(), signed_by)
    assert (manifest.revision, manifest.parent, manifest.message) == (newest.revision, first, "it ended")
    assert manifest.author == ("highway-patrol", "admin-1")
    steps = [entry["change"] for entry in desk.live.ledger("rulebook_changed")]
    whats = [step["what"] for step in steps if step.get("proposal") == proposal.id]
    assert whats == ["proposed", "checked", "approved", "activated"]
    (own,) = [entry for entry in await desk.of("owner-2").log() if entry.proposal]
    assert (own.message, list(own.manifests)) == ("it ended", [])


async def _back_again(desk: Desk, first: str) -> None:
    """A rollback is a proposal too: of the exchange, approved by those whose agreement it is about."""
    assert (await refusal(_last(desk.of("owner-1").rollback("back")))).reason == "ADMINISTRATION_DENIED"
    back = await _last(desk.of("exchange-1").rollback("it did not end"))
    assert (back.rollback, back.state, back.revision) == (True, OPEN, first)
    assert list((await desk.of("exchange-1").proposal(back.id)).missing) == [
        "approval-missing: highway-patrol"
    ]
    assert (await refusal(desk.of("exchange-1").activate(back.id))).reason == "APPROVAL_MISSING"
    shown = await desk.of("owner-1").proposal(back.id)
    await desk.of("owner-1").approve(back.id, shown.revision)
    await desk.of("exchange-1").activate(back.id)
    assert (await desk.of("exchange-1").status()).revision == first
    async with desk.live.caller("transport").stream("crash-reports") as stream:
        assert (await stream.opened()) is not None
    newest = (await desk.of("exchange-1").log())[0]
    assert (newest.rollback, newest.message) == (True, "it did not end")


async def _last(sent: AsyncIterator[pb.Proposal]) -> pb.Proposal:
    return [proposal async for proposal in sent][-1]


async def test_what_is_not_ones_own_is_refused_before_anything_is_kept(desk: Desk) -> None:
    entries = len(desk.live.ledger("rulebook_changed"))
    files = await desk.pull("ems")
    guessed = (await desk.pull("exchange-1"))[AGREEMENTS] + b"\n"
    refusals = []
    for path in (AGREEMENTS, "data/agreements/nobody/data.yaml"):
        found = await refusal(desk.propose("ems", {**files, path: guessed}))
        refusals.append(found.message.replace(path, "…"))
        assert found.reason == "RULEBOOK_REFUSED"
    assert refusals[0] == refusals[1]
    assert (await refusal(desk.propose("ems", files))).reason == "RULEBOOK_UNCHANGED"
    changed = {**files, "agencies/ems/module.rego": files["agencies/ems/module.rego"] + b"\n# more\n"}
    for heading, reason in (
        ({"message": " "}, "REQUEST_INVALID"),
        ({"base": MISSING[1]}, "PROPOSAL_STALE"),
        ({"proposal": MISSING[0]}, "PROPOSAL_NOT_FOUND"),
    ):
        assert (await refusal(desk.propose("ems", changed, **heading))).reason == reason
    assert (await refusal(desk.propose("auditor", await desk.pull("auditor")))).reason == "RULEBOOK_UNCHANGED"
    assert (await refusal(desk.propose("nobody", changed))).reason == "ADMINISTRATION_DENIED"
    assert len(desk.live.ledger("rulebook_changed")) == entries


async def test_an_agencys_proposal_that_probes_is_told_nothing(desk: Desk) -> None:
    """Another's module, a hidden topic: the finding is the same whether it is there or not, and it is never approved."""
    files = await desk.pull("ems")
    texts = []
    for name in ("transport", "no-such-agency"):
        probe = files["agencies/ems/module.rego"] + f'\n_probe := data.agencies["{name}"].deny\n'.encode()
        proposal = (await desk.propose("ems", {**files, "agencies/ems/module.rego": probe}))[-1]
        assert proposal.state == pb.PROPOSAL_STATE_REFUSED
        texts.append(
            orjson.dumps([each.what for each in proposal.check.findings]).replace(name.encode(), b"?")
        )
        found = await refusal(desk.of("ems").approve(proposal.id, proposal.revision))
        assert found.reason == "PROPOSAL_UNCHECKED"
        await desk.of("ems").reject(proposal.id, "a probe")
        assert (await desk.of("ems").proposal(proposal.id)).state == pb.PROPOSAL_STATE_REJECTED
    assert texts[0] == texts[1]
