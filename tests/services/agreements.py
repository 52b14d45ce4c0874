"""An agreement of a running exchange that its owner ends, and the change taken back."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import yaml

from broker.core.rulebook.archive import read_files
from broker.core.rulebook.pack import pack
from connectors.client import Client
from protos.entente.v1.rulebook_pb2 import Proposal
from tests.services.broker import BrokerProcess


def _client(broker: BrokerProcess, context: str) -> Client:
    token = broker.metadata(context)[0][1].removeprefix("Bearer ")
    return Client(broker.config.listen.tls, token=token, ca_file=broker.directory / "tls" / "ca.pem")


async def end_agreement(broker: BrokerProcess, owner: str, name: str) -> None:
    """One of the owner's administrators proposes it, another approves; the rulebook must have no cases that expect it."""
    agreements = f"data/agreements/{owner}/data.yaml"
    async with _client(broker, f"{owner}-admin") as author, _client(broker, f"{owner}-admin-2") as approver:
        with tempfile.TemporaryDirectory(prefix="entente-") as directory:
            archive = Path(directory) / "rulebook.tar.gz"
            with archive.open("wb") as file:
                await author.rulebook.pull(file)
            files = read_files(archive)
            kept = {each: table for each, table in yaml.safe_load(files[agreements]).items() if each != name}
            with archive.open("wb") as file:
                pack({**files, agreements: yaml.safe_dump(kept).encode()}, file)
            proposal = await _last(author.rulebook.propose(archive, f"{name} ends"))
        shown = await approver.rulebook.proposal(proposal.id)
        await approver.rulebook.approve(proposal.id, shown.revision)
        await author.rulebook.activate(proposal.id)


async def take_back(broker: BrokerProcess, owner: str) -> None:
    """Put the revision before in force again, which the exchange proposes and the owner approves."""
    async with _client(broker, "admin-1") as exchange, _client(broker, f"{owner}-admin") as approver:
        back = await _last(exchange.rulebook.rollback("it did not end"))
        shown = await approver.rulebook.proposal(back.id)
        await approver.rulebook.approve(back.id, shown.revision)
        await exchange.rulebook.activate(back.id)


async def _last(sent: AsyncIterator[Proposal]) -> Proposal:
    *_, last = [proposal async for proposal in sent]
    return last
