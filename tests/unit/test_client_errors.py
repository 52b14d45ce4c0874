"""The client's exceptions: one for each reason of the catalogue, and which of them mean that repeating can help."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest

from broker.errors import Reason
from connectors import errors
from connectors.client import Client
from connectors.cloudevents import new_record
from connectors.errors import (
    KINDS,
    TRANSPORT,
    EntenteClientError,
    ExchangeFailed,
    IdReused,
    LimitExceeded,
    NotFound,
    PermissionDenied,
    RecordRefused,
    Suspended,
    Unauthenticated,
    Unavailable,
    error_of,
    is_retryable_refusal,
)
from connectors.publishing import PublishOutcome
from connectors.retry import Retry
from tests.services.exchange import Script, running_exchange

on_one_loop = pytest.mark.asyncio(loop_scope="session")  # grpc.aio keeps to one event loop a process

OUTAGES = {
    *("ISSUER_UNAVAILABLE", "DRAINING", "AUDIT_UNAVAILABLE", "AGREEMENT_UNAVAILABLE", "POLICY_UNAVAILABLE"),
    *("STORAGE_UNAVAILABLE", "STORAGE_FULL", "LEDGER_UNAVAILABLE", "LIMIT_EXCEEDED"),
}
QUICK = Retry(attempts=4, first_s=0.01, longest_s=0.02)
RECORD = new_record(type="t.v1", source="//ems/cli", id="1", data={}, labels={"dataclassification": "green"})


def test_every_reason_of_the_catalogue_has_its_exception_and_no_other_does() -> None:
    assert set(KINDS) == {reason.name for reason in Reason}


@pytest.mark.parametrize("reason", Reason, ids=lambda reason: reason.name)
def test_a_call_is_worth_repeating_where_the_catalogue_says_so(reason: Reason) -> None:
    error = error_of(reason.name, "text", "ref-1", reason.code, {"vocabulary": "a"})
    assert error.retryable == (reason.name in OUTAGES)
    assert (reason.code == "UNAVAILABLE") == isinstance(error, Unavailable)
    assert (reason.code == "UNAUTHENTICATED") == isinstance(error, Unauthenticated)
    assert (reason.code == "NOT_FOUND") == isinstance(error, NotFound)
    assert (error.reason, error.reference, error.metadata) == (reason.name, "ref-1", {"vocabulary": "a"})


@pytest.mark.parametrize("reason", Reason, ids=lambda reason: reason.name)
def test_a_record_is_given_up_for_no_fault_of_others(reason: Reason) -> None:
    outcome = PublishOutcome("//ems/cli", "1", reason=reason.name, message="text", reference="ref-1")
    assert outcome.retryable == (reason.name in OUTAGES | {"INTERNAL"})
    error = outcome.error()
    assert isinstance(error, KINDS[reason.name])
    assert (error.message, error.reference) == ("text", "ref-1")


def test_a_durable_record_has_no_error() -> None:
    outcome = PublishOutcome("//ems/cli", "1", b"position")
    assert (outcome.error(), outcome.retryable) == (None, False)


def test_whoever_treats_a_group_treats_its_special_cases() -> None:
    assert issubclass(IdReused, RecordRefused)
    assert issubclass(Suspended, PermissionDenied)
    assert all(issubclass(kind, EntenteClientError) for kind in KINDS.values())


@pytest.mark.parametrize(
    ("code", "kind", "retryable"),
    [
        ("UNAVAILABLE", Unavailable, True),
        ("PERMISSION_DENIED", PermissionDenied, False),
        ("RESOURCE_EXHAUSTED", LimitExceeded, True),
        ("INTERNAL", ExchangeFailed, False),
        ("ABORTED", EntenteClientError, False),
    ],
)
def test_a_reason_of_a_newer_exchange_goes_by_its_code(
    code: str, kind: type[EntenteClientError], retryable: bool
) -> None:
    error = error_of("INVENTED_LATER", "text", code=code)
    assert (type(error), error.retryable) == (kind, retryable)
    assert not is_retryable_refusal("INVENTED_LATER")


@pytest.mark.parametrize(
    ("code", "retryable"),
    [("UNAVAILABLE", True), ("DEADLINE_EXCEEDED", True), ("INTERNAL", True), ("UNIMPLEMENTED", False)],
)
def test_a_broken_connection_is_worth_another_one(code: str, retryable: bool) -> None:
    assert error_of(TRANSPORT, "text", code=code).retryable is retryable


def test_each_exception_says_what_to_do_next() -> None:
    kinds = {
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and kind.__module__ == errors.__name__
    }
    assert set(KINDS.values()) == kinds - {EntenteClientError}
    assert all(kind.__doc__ for kind in kinds)
    page = (Path(__file__).parents[2] / "docs" / "client.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert not [kind for kind in KINDS.values() if not any(f"`{kind.__name__}`" in row for row in rows)]


@on_one_loop
async def test_publishing_slows_down_to_the_limit_and_other_calls_do_not_wait() -> None:
    script = Script()
    over = grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED"
    async with (
        running_exchange(script) as endpoint,
        Client(endpoint, token="t", insecure_plaintext=True, retry=QUICK) as exchange,
    ):
        script.refusals.extend([over] * 3)
        assert (await exchange.publish("t", [RECORD]))[0].position is not None
        script.refusals.extend([over] * 3)
        answered = [each async for batch in exchange.publish_stream("t", [[RECORD]]) for each in batch]
        assert [each.duplicate for each in answered] == [True]
        script.refusals.extend([over] * 2)
        with pytest.raises(LimitExceeded):
            await exchange.who_am_i()
    assert (script.calls["Publish"], script.calls["PublishStream"], script.calls["WhoAmI"]) == (4, 4, 1)
