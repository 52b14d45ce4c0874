"""The Rulebook service."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import IO, TypeVar

from google.protobuf.message import Message

from broker.core.rulebook.desk import RulebookDesk
from broker.core.rulebook.library import ShownProposal
from broker.core.rulebook.pack import pack
from broker.core.rulebook.proposing import Heading, ProposingDesk
from broker.core.rulebook.reading import ReadingDesk
from broker.core.simulate.desk import SimulationDesk, SimulationQuestion
from broker.errors import EntenteError, Reason
from broker.rpc import rulebook_messages as shown
from broker.rpc.call import Call
from broker.rpc.quotas import Quotas
from broker.rpc.times import milliseconds
from protos.entente.v1 import rulebook_pb2 as pb

ARCHIVE_BYTES = 128 << 20
"""The most that a proposal may take, packed."""

RECEIVE_TIMEOUT_S = 600.0
"""How long a proposal may take to be sent."""

_CHUNK_BYTES = 1 << 20
_IN_MEMORY_BYTES = 4 << 20
_PAGE_DEFAULT, _PAGE_MOST, _PAGE_BYTES = 50, 200, 2 << 20
_Message = TypeVar("_Message", bound=Message)


class RulebookServicer:
    """Translates between protobuf and the desks."""

    def __init__(
        self,
        *,
        proposing: ProposingDesk,
        desk: RulebookDesk,
        reading: ReadingDesk,
        simulations: SimulationDesk,
        quotas: Quotas,
        idle_s: float,
        message_bytes: int,
    ) -> None:
        """idle_s: how long a stream waits for its client's next message, or for one to be read."""
        self._proposing = proposing
        self._desk = desk
        self._reading = reading
        self._simulations = simulations
        self._quotas = quotas
        self._idle_s = idle_s
        self._message_bytes = message_bytes

    async def propose(self, call: Call) -> None:
        """Rulebook.Propose."""
        with self._quotas.stream(call.caller.agency):
            # Before anything of it is received: an agency fills no more than one place on the disk.
            async with self._proposing.place(call.caller) as place:
                with tempfile.NamedTemporaryFile() as archive:
                    async with _in_time(RECEIVE_TIMEOUT_S):
                        heading = await self._received(call, archive)
                    proposing = self._proposing.propose(call.caller, heading, Path(archive.name), place)
                    await self._answer(call, proposing, pb.ProposeResponse)

    async def rollback(self, call: Call) -> None:
        """Rulebook.Rollback."""
        with self._quotas.stream(call.caller.agency):
            request = await self._one(call, pb.RollbackRequest())
            async with self._proposing.place(call.caller) as place:
                proposing = self._proposing.rollback(call.caller, request.revision, request.message, place)
                await self._answer(call, proposing, pb.RollbackResponse)

    async def simulate(self, call: Call) -> None:
        """Rulebook.Simulate."""
        with self._quotas.stream(call.caller.agency):
            request = await self._one(call, pb.SimulateRequest())
            since_ms = milliseconds(request.since) if request.HasField("since") else None
            question = SimulationQuestion(request.proposal, since_ms, request.last)
            async with aclosing(self._simulations.simulate(call.caller, question)) as responses:
                async for response in responses:
                    await self._write(call, response)

    async def get_proposal(self, call: Call) -> None:
        """Rulebook.GetProposal."""
        request = pb.GetProposalRequest.FromString(call.request)
        found = await self._desk.get(call.caller, request.proposal)
        call.response = pb.GetProposalResponse(proposal=shown.proposal(found)).SerializeToString()

    async def list_proposals(self, call: Call) -> None:
        """Rulebook.ListProposals."""
        request = pb.ListProposalsRequest.FromString(call.request)
        most = _page(request.page_size)
        found = await self._reading.proposals(call.caller, closed=request.closed, most=most)
        response = pb.ListProposalsResponse()
        for each in map(shown.proposal, found):
            del each.check.findings[:]
            if response.ByteSize() + each.ByteSize() > _PAGE_BYTES:
                break
            response.proposals.append(each)
        call.response = response.SerializeToString()

    async def approve(self, call: Call) -> None:
        """Rulebook.Approve."""
        request = pb.ApproveRequest.FromString(call.request)
        found = await self._desk.approve(call.caller, request.proposal, request.revision)
        call.response = pb.ApproveResponse(proposal=shown.proposal(found)).SerializeToString()

    async def reject(self, call: Call) -> None:
        """Rulebook.Reject."""
        request = pb.RejectRequest.FromString(call.request)
        found = await self._desk.reject(call.caller, request.proposal, request.reason)
        call.response = pb.RejectResponse(proposal=shown.proposal(found)).SerializeToString()

    async def activate(self, call: Call) -> None:
        """Rulebook.Activate."""
        request = pb.ActivateRequest.FromString(call.request)
        done = await self._desk.activate(call.caller, request.proposal)
        call.response = pb.ActivateResponse(activation=shown.activation(done)).SerializeToString()

    async def get_status(self, call: Call) -> None:
        """Rulebook.GetStatus."""
        pb.GetStatusRequest.FromString(call.request)
        found = await self._reading.status(call.caller)
        response = pb.GetStatusResponse(
            revision=found.revision,
            engine=found.engine,
            number=found.number,
            instances=[
                pb.RulebookInstance(instance=name, live=live)
                for name, live in (found.instances or {}).items()
            ],
            activating=found.activating,
            open_proposals=found.open_proposals,
        )
        response.since.FromMilliseconds(found.since_ms)
        call.response = response.SerializeToString()

    async def list_revisions(self, call: Call) -> None:
        """Rulebook.ListRevisions."""
        request = pb.ListRevisionsRequest.FromString(call.request)
        found = await self._reading.log(call.caller, _page(request.page_size))
        response = pb.ListRevisionsResponse(revisions=[shown.log_entry(each) for each in found])
        call.response = response.SerializeToString()

    async def pull_revision(self, call: Call) -> None:
        """Rulebook.PullRevision."""
        with (
            self._quotas.stream(call.caller.agency),
            tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES) as archive,
        ):
            request = await self._one(call, pb.PullRevisionRequest())
            pulled = await self._reading.pull(call.caller, request.revision, request.proposal)
            await asyncio.to_thread(pack, pulled.files, archive)
            archive.seek(0)
            response = pb.PullRevisionResponse(revision=pulled.revision, own=pulled.own)
            while response.revision or response.archive:
                await self._write(call, response)
                response = pb.PullRevisionResponse(archive=archive.read(_CHUNK_BYTES))

    async def diff_revisions(self, call: Call) -> None:
        """Rulebook.DiffRevisions."""
        request = pb.DiffRevisionsRequest.FromString(call.request)
        found = await self._reading.diff(call.caller, request.old, request.new)
        response = pb.DiffRevisionsResponse()
        response.cut = shown.add_changes(response.changes, found)
        call.response = response.SerializeToString()

    async def _received(self, call: Call, archive: IO[bytes]) -> Heading:
        """What the client sends, up to its half-close; the archive goes into the file."""
        first = await self._one(call, pb.ProposeRequest())
        if first.WhichOneof("part") != "heading":
            raise EntenteError(Reason.STREAM_PROTOCOL, "the heading comes first")
        size_bytes = 0
        while (message := await self._next(call)) is not None:
            part = pb.ProposeRequest.FromString(message)
            if part.WhichOneof("part") != "archive":
                raise EntenteError(Reason.STREAM_PROTOCOL, "the archive follows its heading")
            size_bytes += len(part.archive)
            if size_bytes > ARCHIVE_BYTES:
                raise EntenteError(Reason.RULEBOOK_REFUSED, f"it has more than {ARCHIVE_BYTES} bytes, packed")
            archive.write(part.archive)
        archive.flush()
        return Heading(first.heading.message, first.heading.base, first.heading.proposal)

    async def _answer(
        self,
        call: Call,
        proposing: AsyncGenerator[ShownProposal, None],
        response: type[pb.ProposeResponse] | type[pb.RollbackResponse],
    ) -> None:
        async with aclosing(proposing):
            async for found in proposing:
                await self._write(call, response(proposal=shown.proposal(found)))

    async def _one(self, call: Call, request: _Message) -> _Message:
        """The client's next message, which has to come."""
        request.ParseFromString(await self._next(call) or b"")
        return request

    async def _next(self, call: Call) -> bytes | None:
        async with _in_time(self._idle_s):
            message = await call.read()
        if message is not None and len(message) > self._message_bytes:
            raise EntenteError(Reason.MESSAGE_TOO_LARGE, str(self._message_bytes))
        return message

    async def _write(self, call: Call, response: Message) -> None:
        try:
            async with asyncio.timeout(self._idle_s):
                await call.write(response.SerializeToString())
        except TimeoutError:
            raise EntenteError(Reason.CONSUMER_TOO_SLOW, f"{self._idle_s:g}") from None


@asynccontextmanager
async def _in_time(timeout_s: float) -> AsyncIterator[None]:
    """What the client sends has to come in time."""
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except TimeoutError:
        raise EntenteError(Reason.STREAM_PROTOCOL, "nothing more was sent in time") from None


def _page(size: int) -> int:
    return min(size or _PAGE_DEFAULT, _PAGE_MOST)
