"""Changing the rulebook of an exchange, for administrators."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

import grpc

from connectors.calls import Caller
from connectors.errors import from_rpc
from protos.entente.v1 import rulebook_pb2

if TYPE_CHECKING:
    from protos.entente.v1.rulebook_pb2_grpc import RulebookAsyncStub

ACTIVATE_TIMEOUT_S = 600.0
"""Instances may take minutes to prepare a rulebook of a million agreements."""

_CHUNK_BYTES = 48 << 10
"""Far below what an exchange takes as one message, unless it is configured to take little."""


class Administering:
    """The service Rulebook as the caller may use it; every method raises EntenteClientError."""

    def __init__(self, stub: RulebookAsyncStub, caller: Caller) -> None:
        self._stub = stub
        self._caller = caller

    async def propose(
        self, archive: Path, message: str, *, base: str = "", proposal: str = ""
    ) -> AsyncIterator[rulebook_pb2.Proposal]:
        """The proposal once it is stored, and again once it is checked.

        archive: a .tar.gz of the rulebook's files. base: the revision that was edited; proposal: whose next version it is.
        Is not repeated: after a failure look whether the proposal is there. Raises OSError for the archive.
        """

        async def parts() -> AsyncIterator[rulebook_pb2.ProposeRequest]:
            heading = rulebook_pb2.ProposalHeading(message=message, base=base, proposal=proposal)
            yield rulebook_pb2.ProposeRequest(heading=heading)
            while chunk := file.read(_CHUNK_BYTES):
                yield rulebook_pb2.ProposeRequest(archive=chunk)

        # Opened here: what fails within `parts` reaches the caller as nothing but a cancelled call.
        with archive.open("rb") as file:
            call = self._stub.Propose(parts(), metadata=await self._caller.metadata())
            with self._caller.reading(call):
                async for response in call:
                    yield response.proposal

    async def rollback(self, message: str, revision: str = "") -> AsyncIterator[rulebook_pb2.Proposal]:
        """As `propose`, of a revision that was in force; "": the one before."""
        request = rulebook_pb2.RollbackRequest(revision=revision, message=message)
        call = self._stub.Rollback(request, metadata=await self._caller.metadata())
        with self._caller.reading(call):
            async for response in call:
                yield response.proposal

    async def simulate(
        self, proposal: str, *, since_ms: int | None = None, last: int = 0
    ) -> AsyncIterator[rulebook_pb2.SimulateResponse]:
        """What a proposal would do: progress, the summary, rows.

        since_ms: decisions recorded since then count, in milliseconds since 1970; last: so many, the newest ones, instead.
        """
        request = rulebook_pb2.SimulateRequest(proposal=proposal, last=last)
        if since_ms is not None:
            request.since.FromMilliseconds(since_ms)
        call = self._stub.Simulate(request, metadata=await self._caller.metadata())
        with self._caller.reading(call):
            async for response in call:
                yield response

    async def proposal(self, proposal: str) -> rulebook_pb2.Proposal:
        """One proposal, with what was found, what it would change, and what is missing."""
        request = rulebook_pb2.GetProposalRequest(proposal=proposal)
        return (await self._caller.unary(self._stub.GetProposal, request)).proposal

    async def proposals(self, *, closed: bool = False) -> list[rulebook_pb2.Proposal]:
        """Up to 200 proposals that concern the caller, the newest first."""
        request = rulebook_pb2.ListProposalsRequest(closed=closed, page_size=200)
        return list((await self._caller.unary(self._stub.ListProposals, request)).proposals)

    async def approve(self, proposal: str, revision: str) -> rulebook_pb2.Proposal:
        """Approve the version of a proposal that has this revision."""
        request = rulebook_pb2.ApproveRequest(proposal=proposal, revision=revision)
        return (await self._caller.unary(self._stub.Approve, request)).proposal

    async def reject(self, proposal: str, reason: str) -> rulebook_pb2.Proposal:
        """Close a proposal."""
        request = rulebook_pb2.RejectRequest(proposal=proposal, reason=reason)
        return (await self._caller.unary(self._stub.Reject, request)).proposal

    async def activate(self, proposal: str) -> rulebook_pb2.Activation:
        """Put an approved proposal in force; nothing older can be released when this returns.

        Is not repeated: after a failure of the transport call it again, which changes nothing if it was done.
        """
        request = rulebook_pb2.ActivateRequest(proposal=proposal)
        metadata = await self._caller.metadata()
        try:
            done = await self._stub.Activate(request, metadata=metadata, timeout=ACTIVATE_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            raise from_rpc(error, self._caller.endpoint) from None
        return done.activation

    async def status(self) -> rulebook_pb2.GetStatusResponse:
        """What is in force."""
        return await self._caller.unary(self._stub.GetStatus, rulebook_pb2.GetStatusRequest())

    async def log(self, most: int = 50) -> list[rulebook_pb2.RevisionEntry]:
        """What was in force, the newest first; up to 200."""
        request = rulebook_pb2.ListRevisionsRequest(page_size=most)
        return list((await self._caller.unary(self._stub.ListRevisions, request)).revisions)

    async def pull(
        self, into: IO[bytes], *, revision: str = "", proposal: str = ""
    ) -> rulebook_pb2.PullRevisionResponse:
        """Write the files of a revision, or of a proposal, as a .tar.gz; returns the rest of the first message."""
        request = rulebook_pb2.PullRevisionRequest(revision=revision, proposal=proposal)
        call = self._stub.PullRevision(request, metadata=await self._caller.metadata())
        first: rulebook_pb2.PullRevisionResponse | None = None
        with self._caller.reading(call):
            async for response in call:
                into.write(response.archive)
                first = first or response
        return first or rulebook_pb2.PullRevisionResponse()

    async def diff(self, old: str = "", new: str = "") -> list[rulebook_pb2.RulebookChange]:
        """What is different between two revisions; "": the one in force."""
        request = rulebook_pb2.DiffRevisionsRequest(old=old, new=new)
        return list((await self._caller.unary(self._stub.DiffRevisions, request)).changes)

    async def explain(self, request: rulebook_pb2.ExplainRequest) -> list[rulebook_pb2.Explanation]:
        """Why something was decided, or would be, as far as the caller may know: one for each decision."""
        return list((await self._caller.unary(self._stub.Explain, request)).explanations)
