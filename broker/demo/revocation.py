"""The demo's second part: an agreement is revoked while its consumer's stream is open; first simulated, then done.

The owner does it alone: the agreement and the cases that say what it promises are its own, so one of its administrators
proposes the change, and another one approves it.
"""

from __future__ import annotations

import asyncio
import re
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import yaml

from broker.cli.rulebook.simulation_answers import collected
from broker.core.rulebook.archive import read_files
from broker.core.rulebook.pack import pack
from broker.core.simulate.model import Part, Shift
from broker.demo.process import DemoFailed
from broker.demo.samples import CRASH_REPORTS
from broker.demo.story import PRINCIPALS, Revocation
from connectors.client import Client
from connectors.errors import EntenteClientError
from protos.entente.v1 import rulebook_pb2 as pb

OWNER, CONSUMER = "highway-patrol", "transport"
_AGREEMENT = "transport-crash-statistics"
_AGREEMENTS = f"data/agreements/{OWNER}/data.yaml"
_CASES = f"cases/{OWNER}/"
_CONSUMERS_PRINCIPAL = "statistician"
"""By which name cases speak of the consumer."""

_AUTHOR = f"{OWNER}-admin"
_APPROVER = f"{OWNER}-admin-2"
_TIMEOUT_S = 60.0

Connect = Callable[[str], Client]
"""A client by the name of its context."""


async def revoke(connect: Connect) -> Revocation:
    """Propose, simulate, approve and activate it. Raises DemoFailed, EntenteClientError."""
    async with connect(_AUTHOR) as author:
        proposal = await _proposed(author)
        simulation = await collected(author.rulebook.simulate(proposal), None)
        if simulation is None:
            raise DemoFailed("the exchange did not simulate the proposal; run the demo again")
        await _approve(connect, _APPROVER, proposal)
        async with _stream(connect) as ending:
            done = await author.rulebook.activate(proposal)
            ended = await asyncio.wait_for(ending, _TIMEOUT_S)
    return Revocation(simulation, done.took_ms, ended, await _refused(connect))


def revocation_faults(found: Revocation) -> list[str]:
    """One line for each thing that is not as it should be."""
    rows = found.simulation.rows
    faults = []
    if {(row.combination.subject.agency, row.shift) for row in rows} != {(CONSUMER, Shift.LOSES)}:
        faults.append(f"the simulation of the revocation foresees something else than {CONSUMER}'s loss")
    if not any(
        row.part is Part.RECORDED and row.stored_before == 1 and row.stored_after == 0 for row in rows
    ):
        faults.append("the simulation of the revocation misses the record that was delivered")
    if found.ended != "POLICY_DENIED":
        faults.append(f"the open stream ended with {found.ended}, POLICY_DENIED expected")
    if found.refused != "TOPIC_NOT_FOUND":
        faults.append(f"after the revocation the topic is {found.refused}, TOPIC_NOT_FOUND expected")
    return faults


def _without_agreement(files: Mapping[str, bytes]) -> Iterator[tuple[str, bytes]]:
    """What the owner sees of the rulebook, without the agreement and the cases that expect it."""
    agreement = re.compile(rb"^%b:\n(?: .*\n|\n)*" % _AGREEMENT.encode(), re.MULTILINE)
    for path, content in files.items():
        if path == _AGREEMENTS:
            content = agreement.sub(b"", content)
        elif path.startswith(_CASES):
            cases = [case for case in yaml.safe_load(content) if case["who"] != _CONSUMERS_PRINCIPAL]
            content = yaml.safe_dump(cases).encode()
        yield path, content


async def _proposed(author: Client) -> str:
    """The id of the checked proposal."""
    message = f"{CONSUMER} leaves the exchange of crash reports"
    with tempfile.TemporaryDirectory(prefix="entente-demo-") as directory:
        pulled, changed = Path(directory) / "pulled.tar.gz", Path(directory) / "changed.tar.gz"
        with pulled.open("wb") as file:
            await author.rulebook.pull(file)
        with changed.open("wb") as file:
            pack(dict(_without_agreement(read_files(pulled))), file)
        *_, proposal = [each async for each in author.rulebook.propose(changed, message)]
    if proposal.state != pb.PROPOSAL_STATE_OPEN:
        found = "; ".join(finding.what for finding in proposal.check.findings[:1])
        raise DemoFailed(f"the exchange refused the revocation: {found or 'it could not check it'}")
    return proposal.id


async def _approve(connect: Connect, name: str, proposal: str) -> None:
    """Approve what is shown of it."""
    async with connect(name) as client:
        shown = await client.rulebook.proposal(proposal)
        await client.rulebook.approve(proposal, shown.revision)


@asynccontextmanager
async def _stream(connect: Connect) -> AsyncIterator[asyncio.Task[str | None]]:
    """The consumer's stream, which has had its record; the task gives the reason why it ended."""
    async with connect(CONSUMER) as client, client.subscribe(CRASH_REPORTS, PRINCIPALS[CONSUMER]) as stream:
        await asyncio.wait_for(anext(stream), _TIMEOUT_S)

        async def end() -> str | None:
            try:
                async for _ in stream:
                    pass
            except EntenteClientError as error:
                return error.reason
            return None

        ending = asyncio.create_task(end())
        try:
            yield ending
        finally:
            ending.cancel()
            await asyncio.gather(ending, return_exceptions=True)


async def _refused(connect: Connect) -> str | None:
    """What the consumer is told that subscribes again."""
    try:
        async with (
            connect(CONSUMER) as client,
            client.subscribe(CRASH_REPORTS, PRINCIPALS[CONSUMER]) as stream,
        ):
            await asyncio.wait_for(anext(stream), _TIMEOUT_S)
    except EntenteClientError as error:
        return error.reason
    return None
