"""Suspending and withdrawing through the exchange, for administrators."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Literal

from connectors.calls import Caller
from protos.entente.v1 import overlays_pb2

if TYPE_CHECKING:
    from protos.entente.v1.overlays_pb2_grpc import OverlaysAsyncStub

Kind = Literal["agency", "principal", "topic"]


class Overlaying:
    """The service Overlays as the caller may use it; every method raises EntenteClientError."""

    def __init__(self, stub: OverlaysAsyncStub, caller: Caller) -> None:
        self._stub = stub
        self._caller = caller

    async def suspend(
        self, kind: Kind, target: str, reason: str, lasts: timedelta | None = None
    ) -> overlays_pb2.SuspendResponse:
        """Suspend an agency, "<agency>/<subject>" or a topic; returns when it is in force on every instance.

        It is repeated while the exchange is unavailable, which may make a second suspension of the same.
        """
        number = overlays_pb2.SuspensionKind.Value(f"SUSPENSION_KIND_{kind.upper()}")
        request = overlays_pb2.SuspendRequest(kind=number, target=target, reason=reason)
        if lasts is not None:
            request.duration.FromTimedelta(lasts)
        return await self._caller.unary(self._stub.Suspend, request)

    async def suspensions(self, *, past: bool = False) -> list[overlays_pb2.Suspension]:
        """Those that hold; `past`: also those that are over."""
        request = overlays_pb2.ListSuspensionsRequest(all=past)
        return list((await self._caller.unary(self._stub.ListSuspensions, request)).suspensions)

    async def ratify(self, suspension_id: str) -> overlays_pb2.RatifyResponse:
        """Keep another administrator's suspension from lapsing."""
        return await self._caller.unary(self._stub.Ratify, overlays_pb2.RatifyRequest(id=suspension_id))

    async def lift(self, suspension_id: str) -> overlays_pb2.LiftResponse:
        """End a suspension."""
        return await self._caller.unary(self._stub.Lift, overlays_pb2.LiftRequest(id=suspension_id))

    async def withdraw(
        self, source: str, record_id: str, reason: str, *, tell_reason: bool = False
    ) -> overlays_pb2.WithdrawResponse:
        """Withdraw a record of the caller's agency; returns when no instance hands it out any more."""
        request = overlays_pb2.WithdrawRequest(
            source=source, id=record_id, reason=reason, tell_reason=tell_reason
        )
        return await self._caller.unary(self._stub.Withdraw, request)

    async def withdrawal(self, source: str, record_id: str) -> overlays_pb2.GetWithdrawalResponse:
        """How a record was withdrawn, and who has acknowledged what."""
        request = overlays_pb2.GetWithdrawalRequest(source=source, id=record_id)
        return await self._caller.unary(self._stub.GetWithdrawal, request)
