"""The interceptors of every call: what is accounted for, what is answered, and what never gets into a log line."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, cast

import grpc
import pytest
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from broker.core.decide import Ruling
from broker.core.evidence import Evidence
from broker.core.in_force import Order
from broker.core.reference import new_reference
from broker.errors import EntenteError, Reason
from broker.model.overlay import Overlays, Suspension, SuspensionKind
from broker.model.principal import Principal
from broker.rpc import interceptors
from broker.rpc.call import Call
from broker.rpc.interceptors import (
    IdentityInterceptor,
    LedgerInterceptor,
    LimitsInterceptor,
    bearer_token,
    chain,
    client_certificate,
    errors_interceptor,
)
from broker.rpc.quotas import QuotaLimits, Quotas
from tests.fakes.clock import TurnedClock
from tests.fakes.delivery import MemoryLedger, World
from tests.fakes.regimes import RULES, in_force


class Aborted(Exception):
    """What the context raises instead of grpc.aio.AbortError."""


class Context:
    """As much of a ServicerContext as interceptors use; `status` is what the call was aborted with."""

    def __init__(self, peer: str = "ipv4:10.0.0.1:5000", metadata: tuple[tuple[str, Any], ...] = ()) -> None:
        self._peer = peer
        self._metadata = metadata
        self.code: grpc.StatusCode | None = None
        self.status = status_pb2.Status()

    def peer(self) -> str:
        return self._peer

    def invocation_metadata(self) -> tuple[tuple[str, Any], ...]:
        return self._metadata

    async def abort(
        self, code: grpc.StatusCode, details: str, trailing: tuple[tuple[str, bytes], ...]
    ) -> None:
        self.code = code
        self.status = status_pb2.Status.FromString(trailing[0][1])
        assert self.status.message == details
        raise Aborted

    @property
    def info(self) -> error_details_pb2.ErrorInfo:
        info = error_details_pb2.ErrorInfo()
        assert self.status.details[0].Unpack(info)
        return info


def new_call(context: Context, principal: Principal | None = None) -> Call:
    call = Call("entente.v1.Exchange/Publish", cast(Any, context), new_reference(1_700_000_000_000))
    call.principal = principal
    return call


def raising(error: Exception) -> Callable[[Call], Awaitable[None]]:
    async def method(_: Call) -> None:
        raise error

    return method


@pytest.fixture
def ledger() -> MemoryLedger:
    return MemoryLedger()


@pytest.fixture
def account(ledger: MemoryLedger) -> LedgerInterceptor:
    return LedgerInterceptor(Evidence(ledger, TurnedClock(), in_force()))


@pytest.fixture
async def principal() -> Principal:
    return World().principal("p-1", "alpha")


async def refuse(account: LedgerInterceptor, call: Call, error: Exception) -> Context:
    with pytest.raises(Aborted):
        await chain([account, errors_interceptor], raising(error))(call)
    return cast(Context, call.context)


def counts(ledger: MemoryLedger) -> dict[str, int]:
    """Calls that were refused, by peer."""
    parts = [cast(dict[str, Any], entry.body["refused"]) for entry in ledger.entries]
    return {part["peer"]: part["count"] for part in parts}


async def test_a_refusal_is_in_the_ledger_under_its_reference(
    account: LedgerInterceptor, ledger: MemoryLedger, principal: Principal
) -> None:
    context = await refuse(account, new_call(Context(), principal), EntenteError(Reason.TOPIC_NOT_FOUND, "x"))
    assert context.code is grpc.StatusCode.NOT_FOUND
    (entry,) = ledger.entries
    assert entry.kind == "call_refused"
    assert entry.body["call"] == {
        "method": "entente.v1.Exchange/Publish",
        "reason": "TOPIC_NOT_FOUND",
        "reference": context.info.metadata["reference"],
    }


async def test_why_a_call_was_refused_is_for_the_ledger_only(
    account: LedgerInterceptor, ledger: MemoryLedger, principal: Principal
) -> None:
    why = {"input": {"topic": "x"}, "output": {"effect": "withhold", "reasons": ["suspended-partner"]}}
    ruling = Ruling(b"key", cast(Any, why), 100, RULES)
    error = EntenteError(Reason.TOPIC_NOT_FOUND, "x", decisions=(ruling,))
    context = await refuse(account, new_call(Context(), principal), error)
    assert ledger.entries[0].body["decisions"] == [why]
    assert "suspended-partner" not in str(context.status)
    assert set(context.info.metadata) == {"reference"}


async def test_what_the_use_case_accounted_for_is_not_written_twice(
    account: LedgerInterceptor, ledger: MemoryLedger, principal: Principal
) -> None:
    call = new_call(Context(), principal)
    call.accounted = True
    await refuse(account, call, EntenteError(Reason.TOKEN_EXPIRED))
    assert ledger.entries == []


async def test_a_refusal_is_answered_also_when_the_ledger_cannot_take_it(
    account: LedgerInterceptor, ledger: MemoryLedger, principal: Principal, caplog: pytest.LogCaptureFixture
) -> None:
    ledger.failures = 1
    context = await refuse(account, new_call(Context(), principal), EntenteError(Reason.TOPIC_NOT_FOUND, "x"))
    assert context.info.reason == "TOPIC_NOT_FOUND"
    assert context.info.metadata["reference"] in caplog.text


async def test_unauthenticated_refusals_are_counted_by_peer_and_reason(
    account: LedgerInterceptor, ledger: MemoryLedger
) -> None:
    for peer, count in (("ipv4:10.0.0.1:5000", 3), ("ipv4:10.0.0.1:6000", 2), ("ipv6:[::1]:7000", 1)):
        for _ in range(count):
            await refuse(account, new_call(Context(peer)), EntenteError(Reason.TOKEN_INVALID, "x"))
    assert ledger.entries == []
    ledger.failures = 1
    await account.flush()
    await account.flush()
    await account.flush()
    assert counts(ledger) == {"ipv4:10.0.0.1": 5, "ipv6:[::1]": 1}
    assert {entry.kind for entry in ledger.entries} == {"refused_aggregate"}


async def test_peers_beyond_the_limit_are_counted_together(
    account: LedgerInterceptor, ledger: MemoryLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interceptors, "MAX_PEERS", 2)
    for number in range(10):
        call = new_call(Context(f"ipv4:10.0.0.{number}:1"))
        await refuse(account, call, EntenteError(Reason.TOKEN_MISSING))
    await account.flush()
    assert counts(ledger) == {"ipv4:10.0.0.0": 1, "ipv4:10.0.0.1": 1, "others": 8}


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (DecodeError("secret-payload"), "REQUEST_INVALID"),
        (ValueError("secret-payload"), "INTERNAL"),
        (KeyError("secret-payload"), "INTERNAL"),
        (UnicodeDecodeError("utf-8", b"secret-payload", 0, 1, "secret-payload"), "INTERNAL"),
    ],
)
async def test_an_unforeseen_error_says_nothing_of_its_message(
    account: LedgerInterceptor,
    ledger: MemoryLedger,
    principal: Principal,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    reason: str,
) -> None:
    caplog.set_level(logging.DEBUG)
    context = await refuse(account, new_call(Context(), principal), error)
    assert context.info.reason == reason
    assert context.code is not grpc.StatusCode.UNKNOWN
    for place in (str(context.status), caplog.text, repr(ledger.entries)):
        assert "secret-payload" not in place
    if reason == "INTERNAL":
        assert context.info.metadata["reference"] in caplog.text


async def test_interceptors_run_in_their_order() -> None:
    order: list[str] = []

    def named(name: str) -> interceptors.Interceptor:
        async def interceptor(call: Call, proceed: interceptors.Method) -> None:
            order.append(name)
            await proceed(call)

        return interceptor

    async def method(_: Call) -> None:
        order.append("method")

    await chain([named("first"), named("second")], method)(new_call(Context()))
    assert order == ["first", "second", "method"]


GOOD = ("authorization", "Bearer a.b.c")


@pytest.mark.parametrize(
    "metadata",
    [
        (),
        (GOOD, GOOD),
        (GOOD, ("authorization", "Bearer other")),
        (("authorization", b"Bearer a.b.c"),),
        (("authorization", "Basic a.b.c"),),
        (("authorization", "a.b.c"),),
        (("authorization", "Bearer"),),
        (("authorization", "Bearer "),),
        (("authorization", ""),),
        (("authorization-bin", b"Bearer a.b.c"),),
    ],
)
def test_anything_but_one_bearer_token_is_none(metadata: tuple[tuple[str, Any], ...]) -> None:
    with pytest.raises(EntenteError) as caught:
        bearer_token(new_call(Context(metadata=metadata)))
    assert caught.value.reason is Reason.TOKEN_MISSING


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_scheme_counts_in_any_case(scheme: str) -> None:
    context = Context(metadata=(("user-agent", "x"), ("authorization", f"{scheme} a.b.c")))
    assert bearer_token(new_call(context)) == "a.b.c"


def test_without_a_client_certificate_there_is_none() -> None:
    assert client_certificate({}) is None
    assert client_certificate({"x509_pem_cert": []}) is None


async def test_limits_come_before_the_method(principal: Principal) -> None:
    clock = TurnedClock()
    limits = LimitsInterceptor(Quotas(QuotaLimits(calls_per_s=2), clock), message_bytes=10)
    served = 0

    async def method(_: Call) -> None:
        nonlocal served
        served += 1

    async def attempt(size_bytes: int = 1) -> str:
        call = new_call(Context(), principal)
        call.request = b"x" * size_bytes
        try:
            await limits(call, method)
        except EntenteError as error:
            return error.reason.name
        return ""

    assert await attempt(11) == "MESSAGE_TOO_LARGE"
    assert [await attempt() for _ in range(3)] == ["", "", "LIMIT_EXCEEDED"]
    clock.advance(1)
    assert await attempt() == ""
    assert served == 3


def test_streams_are_counted_by_agency_and_given_back() -> None:
    quotas = Quotas(QuotaLimits(streams_per_agency=1), TurnedClock())
    with quotas.stream("alpha"):
        with pytest.raises(EntenteError) as caught, quotas.stream("alpha"):
            raise AssertionError("a second stream was let through")
        assert caught.value.reason is Reason.LIMIT_EXCEEDED
        with quotas.stream("beta"):
            pass
    with quotas.stream("alpha"):
        pass


def test_a_batch_larger_than_the_burst_passes_once_the_bucket_is_full() -> None:
    clock = TurnedClock()
    quotas = Quotas(QuotaLimits(publish_records_per_s=10, publish_bytes_per_s=100), clock)
    quotas.take_publish("alpha", 25, 50)
    for _ in range(2):
        clock.advance(1)
        with pytest.raises(EntenteError):
            quotas.take_publish("alpha", 10, 1)
    clock.advance(1)
    quotas.take_publish("alpha", 5, 1)


class Signing:
    """An identity that makes a principal of any token, once it is let to."""

    def __init__(self, agency: str) -> None:
        self.agency = agency
        self.asked, self.go_on = asyncio.Event(), asyncio.Event()

    async def authenticate(self, token: str, certificate_der: bytes | None) -> Principal:
        self.asked.set()
        await self.go_on.wait()
        return World().principal("p-1", self.agency)


def bearing() -> Call:
    context = Context(metadata=(("authorization", "Bearer x"),))
    cast(Any, context).auth_context = dict
    return new_call(context)


async def test_who_is_authenticated_while_the_rules_change_is_so_by_the_later_ones() -> None:
    first, second = Signing("alpha"), Signing("beta")
    second.go_on.set()
    present = in_force(identity=first)
    identify = IdentityInterceptor(present, TurnedClock())
    call = bearing()
    identifying = asyncio.ensure_future(identify(call, raising(EntenteError(Reason.INTERNAL))))
    await first.asked.wait()
    present.replace(in_force(identity=second).present)
    first.go_on.set()
    with pytest.raises(EntenteError):
        await identifying
    assert call.caller.agency == "beta"


async def test_who_is_suspended_is_known_and_refused_before_anything_else() -> None:
    signing = Signing("alpha")
    signing.go_on.set()
    suspension = Suspension("s", SuspensionKind.AGENCY, "alpha", None, "why", "exchange", "admin", 0)
    present = in_force(identity=signing)
    present.replace(Order(present.present.regime, Overlays(1, {"s": suspension})))
    call = bearing()
    with pytest.raises(EntenteError) as refused:
        await IdentityInterceptor(present, TurnedClock())(call, raising(AssertionError()))
    assert refused.value.reason is Reason.SUSPENDED
    assert "why" not in str(refused.value)
    assert call.caller.agency == "alpha"  # so that the refusal is in the ledger under its name
