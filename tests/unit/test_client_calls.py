"""Unary calls of the client: publishing, repetition, errors, tokens, subscriptions and the catalog."""

from __future__ import annotations

import asyncio
import base64
import json
import time
import traceback
from pathlib import Path

import grpc
import pytest

from connectors.client import Client
from connectors.cloudevents import new_record
from connectors.errors import TRANSPORT, EntenteClientError, Unauthenticated
from connectors.publishing import PublishOutcome, encoded
from connectors.retry import Retry
from connectors.tokens import TokenSource
from protos.entente.v1 import exchange_pb2
from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent
from tests.services.exchange import Script, running_exchange
from tests.services.ports import free_port

# grpc.aio keeps to one event loop a process.
pytestmark = pytest.mark.asyncio(loop_scope="session")

QUICK = Retry(attempts=4, first_s=0.01, longest_s=0.02)


def record(number: int, text: str = "x") -> CloudEvent:
    """A publishable record."""
    labels = {"dataclassification": "green"}
    return new_record(type="t.v1", source="//ems/cli", id=str(number), data={"n": text}, labels=labels)


def jwt_until(expires_s: float, mark: str = "") -> str:
    """Something that looks like a JWT with this `exp`; nobody verifies it here."""
    claims = base64.urlsafe_b64encode(json.dumps({"exp": expires_s, "jti": mark}).encode()).rstrip(b"=")
    return f"e30.{claims.decode()}.c2ln"


def client(endpoint: str, **changes: object) -> Client:
    """A quick client without TLS."""
    arguments = {"token": "t", "insecure_plaintext": True, "retry": QUICK} | changes
    return Client(endpoint, **arguments)  # type: ignore[arg-type]


async def test_each_record_has_its_own_outcome() -> None:
    script = Script()
    bare = record(3)
    del bare.attributes["dataclassification"]
    async with running_exchange(script) as endpoint, client(endpoint) as exchange:
        first = await exchange.publish("t", [record(1), record(2), bare])
        again = await exchange.publish("t", [record(1), record(2, "other")])
    assert [outcome.reason for outcome in first] == [None, None, "LABEL_INVALID"]
    assert [outcome.position for outcome in first] == [b"00000000", b"00000001", None]
    assert again[0] == PublishOutcome("//ems/cli", "1", b"00000000", True, b"of a call")
    assert again[1].reason == "ID_REUSED"
    assert script.tokens == ["Bearer t", "Bearer t"]


async def test_publishing_is_repeated_while_the_exchange_is_unavailable() -> None:
    script = Script()
    script.refusals.extend([(grpc.StatusCode.UNAVAILABLE, "STORAGE_UNAVAILABLE")] * 3)
    async with running_exchange(script) as endpoint, client(endpoint) as exchange:
        outcomes = await exchange.publish("t", [record(1)])
    assert outcomes[0].position is not None
    assert script.calls["Publish"] == 4


async def test_repetition_ends_with_the_error_and_its_reference() -> None:
    script = Script()
    script.refusals.extend([(grpc.StatusCode.UNAVAILABLE, "POLICY_UNAVAILABLE")] * 9)
    async with running_exchange(script) as endpoint, client(endpoint) as exchange:
        with pytest.raises(EntenteClientError) as caught:
            await exchange.publish("t", [record(1)])
    assert (caught.value.reason, caught.value.code) == ("POLICY_UNAVAILABLE", "UNAVAILABLE")
    assert caught.value.reference == "ref-1"
    assert script.calls["Publish"] == 4


async def test_a_refusal_is_not_repeated() -> None:
    script = Script()
    script.refusals.append((grpc.StatusCode.NOT_FOUND, "TOPIC_NOT_FOUND"))
    async with running_exchange(script) as endpoint, client(endpoint) as exchange:
        with pytest.raises(EntenteClientError, match="TOPIC_NOT_FOUND") as caught:
            await exchange.publish("t", [record(1)])
    assert caught.value.message == "Refused with TOPIC_NOT_FOUND."
    assert script.calls["Publish"] == 1


async def test_nobody_listening_is_a_transport_error_that_names_the_endpoint() -> None:
    endpoint = f"127.0.0.1:{free_port()}"
    async with client(endpoint, retry=Retry(attempts=1)) as exchange:
        with pytest.raises(EntenteClientError) as caught:
            await exchange.who_am_i()
    assert (caught.value.reason, caught.value.code, caught.value.reference) == (TRANSPORT, "UNAVAILABLE", "")
    assert endpoint in caught.value.message
    assert "\n" not in str(caught.value)


async def test_a_request_that_is_made_of_encoded_records_is_the_same_message() -> None:
    records = [record(1), record(2, "x" * 20_000), CloudEvent()]
    for batch in (records, []):
        message = exchange_pb2.PublishRequest(topic="crash-reports", records=batch)
        assert exchange_pb2.PublishRequest.FromString(encoded("crash-reports", batch)) == message


async def test_large_publications_are_cut_into_calls() -> None:
    script = Script()
    async with running_exchange(script) as endpoint, client(endpoint) as exchange:
        outcomes = await exchange.publish("t", [record(number) for number in range(1_001)])
    assert [outcome.id for outcome in outcomes] == [str(number) for number in range(1_001)]
    assert script.calls["Publish"] == 3


async def test_a_record_too_large_for_a_call_is_refused_and_the_others_are_not() -> None:
    """The fake exchange reads 4 MiB at most, as gRPC does by default."""
    script = Script()
    records = [record(1), record(2, "x" * (5 << 20)), record(3)]
    async with running_exchange(script) as endpoint, client(endpoint) as exchange:
        published = await exchange.publish("t", records)
        batches = [[each] for each in (*records, record(4), record(5))]
        streamed = [each async for answered in exchange.publish_stream("t", batches) for each in answered]
    assert [outcome.reason for outcome in published] == [None, "RECORD_TOO_LARGE", None]
    assert [outcome.reason for outcome in streamed] == [None, "RECORD_TOO_LARGE", None, None, None]
    assert not streamed[1].retryable
    assert [stored.id for stored in script.log] == ["1", "3", "4", "5"]


async def test_only_a_record_alone_is_blamed_for_the_size_of_its_call() -> None:
    script = Script()
    too_large = grpc.StatusCode.RESOURCE_EXHAUSTED, "MESSAGE_TOO_LARGE"
    async with running_exchange(script) as endpoint, client(endpoint) as exchange:
        script.refusals.append(too_large)
        assert [each.reason for each in await exchange.publish("t", [record(1)])] == ["RECORD_TOO_LARGE"]
        for records in ([record(1), record(2)], [record(1)]):
            code = "MESSAGE_TOO_LARGE" if len(records) > 1 else "TOPIC_NOT_FOUND"
            script.refusals.append((too_large[0], code))
            with pytest.raises(EntenteClientError, match=code):
                await exchange.publish("t", records)
    assert script.log == []


async def test_a_stream_of_batches_survives_a_break_after_it_was_stored() -> None:
    script = Script(break_after=[2, 0])
    batches = [[record(number)] for number in range(10)]
    async with running_exchange(script) as endpoint, client(endpoint) as exchange:
        outcomes = [each async for answered in exchange.publish_stream("t", batches) for each in answered]
    assert [outcome.id for outcome in outcomes] == [str(number) for number in range(10)]
    assert all(outcome.position is not None for outcome in outcomes)
    assert [stored.id for stored in script.log] == [str(number) for number in range(10)]
    assert script.calls["PublishStream"] == 3


async def test_a_stream_that_stays_broken_raises() -> None:
    script = Script(break_after=[0] * 10)
    async with running_exchange(script) as endpoint, client(endpoint) as exchange:
        with pytest.raises(EntenteClientError, match="STORAGE_UNAVAILABLE"):
            async for _ in exchange.publish_stream("t", [[record(1)]]):
                pytest.fail("nothing was answered")


async def test_an_expired_token_is_asked_for_again(tmp_path: Path) -> None:
    script = Script()
    script.refusals.append((grpc.StatusCode.UNAUTHENTICATED, "TOKEN_EXPIRED"))
    tokens = iter(["first", "second"])
    async with (
        running_exchange(script) as endpoint,
        client(endpoint, token=None, token_provider=lambda: next(tokens)) as exchange,
    ):
        assert (await exchange.who_am_i()).agency == "ems"
    assert script.tokens == ["Bearer first", "Bearer second"]


async def test_a_fixed_token_that_expired_is_an_error() -> None:
    script = Script()
    script.refusals.append((grpc.StatusCode.UNAUTHENTICATED, "TOKEN_EXPIRED"))
    async with running_exchange(script) as endpoint, client(endpoint) as exchange:
        with pytest.raises(EntenteClientError, match="TOKEN_EXPIRED"):
            await exchange.who_am_i()
    assert script.calls["WhoAmI"] == 1


async def test_a_token_file_is_read_again_when_its_token_is_due(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(jwt_until(time.time() - 1) + "\n")
    source = TokenSource(token_file=file)
    stale = await source.current()
    file.write_text(jwt_until(time.time() + 3_600))
    fresh = await source.current()
    file.write_text("not looked at before it is due")
    assert stale != fresh == await source.current()


async def test_a_coroutine_function_may_provide_tokens() -> None:
    async def provide() -> str:
        return "from-coroutine"

    assert await TokenSource(token_provider=provide).current() == "from-coroutine"


@pytest.mark.parametrize("content", ["", "two\nlines", "ümlaut"])
async def test_what_is_no_token_is_never_sent_or_shown(tmp_path: Path, content: str) -> None:
    file = tmp_path / "token"
    file.write_text(content)
    with pytest.raises(EntenteClientError, match="TOKEN_MISSING") as caught:
        await TokenSource(token_file=file).current()
    assert not content or content not in str(caught.value)


async def test_a_failing_provider_and_a_missing_file_are_unauthenticated(tmp_path: Path) -> None:
    def fail() -> str:
        raise KeyError("secret")

    for source in (TokenSource(token_provider=fail), TokenSource(token_file=tmp_path / "absent")):
        with pytest.raises(EntenteClientError) as caught:
            await source.current()
        assert caught.value.code == "UNAUTHENTICATED"
        assert "secret" not in "".join(traceback.format_exception(caught.value))


async def test_a_token_that_is_still_good_outlives_a_bad_moment_of_its_source(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1_000_000.0
    answers = iter([jwt_until(now + 100), "", jwt_until(now + 200), "", ""])
    source = TokenSource(token_provider=lambda: next(answers))
    monkeypatch.setattr(time, "time", lambda: now)
    first = await source.current()
    now += 80  # due since the 75th second
    assert await source.current() == first
    second = await source.current()
    assert second != first
    now += 120
    with pytest.raises(Unauthenticated, match="empty"):
        await source.current()
    source.discard()
    with pytest.raises(Unauthenticated):
        await source.current()


async def test_calls_that_wait_for_a_token_ask_for_one() -> None:
    asked: list[int] = []

    async def provide() -> str:
        asked.append(len(asked))
        await asyncio.sleep(0)
        return jwt_until(time.time() + 600, str(asked))

    source = TokenSource(token_provider=provide)
    assert len(set(await asyncio.gather(*(source.current() for _ in range(9))))) == 1
    assert asked == [0]


async def test_subscriptions_are_created_found_moved_and_deleted() -> None:
    script = Script()
    async with running_exchange(script) as endpoint, client(endpoint) as exchange:
        made = await exchange.create_subscription("intake", "crash-reports", "care", "latest")
        assert made.name == "intake"
        assert [each.name for each in await exchange.list_subscriptions()] == ["intake"]
        assert (await exchange.seek_subscription("intake", "latest")).cursor == b"latest"
        assert (await exchange.get_subscription("intake")).cursor == b"latest"
        assert (await exchange.seek_subscription("intake", b"0:7")).cursor == b"0:7"
        await exchange.delete_subscription("intake")
        with pytest.raises(EntenteClientError, match="SUBSCRIPTION_NOT_FOUND"):
            await exchange.get_subscription("intake")


async def test_the_catalog_answers() -> None:
    script = Script()
    async with running_exchange(script) as endpoint, client(endpoint) as exchange:
        assert (await exchange.can_i("subscribe", "crash-reports", "care")).permitted
        assert [topic.name for topic in await exchange.topics()] == ["crash-reports"]
        assert [kind.name for kind in await exchange.record_types()] == ["t.v1"]
        assert [agency.name for agency in await exchange.agencies()] == ["ems"]
        assert list((await exchange.vocabulary()).classifications) == ["clear", "green"]
        with pytest.raises(EntenteClientError) as caught:
            await exchange.can_i("subscribe", "crash-reports", "curiosity")
        assert caught.value.metadata == {"vocabulary": "care,statistics"}


async def test_a_preview_shows_each_party() -> None:
    async with running_exchange(Script()) as endpoint, client(endpoint) as exchange:
        previews = await exchange.preview("t", [record(1), record(2)])
    assert [preview.parties[0].effect for preview in previews] == [exchange_pb2.EFFECT_NOTICE] * 2


async def test_an_archive_that_is_not_there_is_told_as_such(tmp_path: Path) -> None:
    async with running_exchange(Script()) as endpoint, client(endpoint) as exchange:
        with pytest.raises(FileNotFoundError):
            await anext(exchange.rulebook.propose(tmp_path / "missing.tar.gz", "why"))
