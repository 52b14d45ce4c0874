"""The commands against an in-memory exchange over TLS: output, exit codes, what goes where."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from cloudevents.core.formats.json import JSONFormat

from broker.adapters.clock import SystemClock
from broker.app.pki import make_authority, make_server
from broker.cli.app import run
from connectors.cli.text import to_json
from protos.entente.v1 import exchange_pb2
from tests.services.exchange import Script
from tests.services.exchange import make_server as make_exchange
from tests.services.ports import free_port
from tests.unit.test_client_calls import record

# grpc.aio keeps to one event loop a process.
pytestmark = pytest.mark.asyncio(loop_scope="session")


@dataclass(frozen=True, slots=True)
class Ran:
    """A finished command."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[Any]:
        """Standard output as JSON Lines."""
        return [json.loads(line) for line in self.out.splitlines()]


@dataclass(frozen=True, slots=True)
class Harness:
    """An exchange and a way to run `entente` against it."""

    script: Script
    entente: Callable[..., Awaitable[Ran]]


def write(name: str, text: str) -> None:
    """A file in the test's own directory."""
    Path(name).write_text(text)


def read(name: str) -> str:
    """What a command has written there."""
    return Path(name).read_text()


@pytest_asyncio.fixture(loop_scope="session")
async def harness(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> AsyncIterator[Harness]:
    script = Script()
    now_ms = SystemClock().now_ms()
    authority = make_authority("Test authority", ["127.0.0.1", "localhost"], now_ms)
    leaf = make_server(authority, ["127.0.0.1", "localhost"], now_ms)
    (tmp_path / "ca.pem").write_bytes(authority.certificate_pem)
    credentials = grpc.ssl_server_credentials([(leaf.key_pem, leaf.certificate_pem)])
    server, port = make_exchange(script, credentials)
    await server.start()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("ENTENTE_TOKEN_FILE", "ENTENTE_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ENTENTE_ENDPOINT", f"127.0.0.1:{port}")
    monkeypatch.setenv("ENTENTE_TOKEN", "a-token")
    monkeypatch.setenv("ENTENTE_CA_FILE", str(tmp_path / "ca.pem"))
    loop = asyncio.get_running_loop()

    def run_here(main: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(main, loop).result()

    async def entente(*arguments: str) -> Ran:
        # The command in a thread, its coroutine on this loop.
        monkeypatch.setattr(asyncio, "run", run_here)
        code = await asyncio.to_thread(run, arguments)
        shown = capsys.readouterr()
        return Ran(int(code), shown.out, shown.err)

    yield Harness(script, entente)
    await server.stop(grace=None)


async def test_whoami_shows_identity_expiry_skew_and_agreements(harness: Harness) -> None:
    ran = await harness.entente("whoami")
    assert (ran.code, ran.err) == (0, "")
    shown = ran.lines[0]
    assert (shown["agency"], shown["attributes"]) == ("ems", {"clearance": "red"})
    assert shown["expires_in_s"] == pytest.approx(600, abs=1)
    assert abs(shown["clock_skew_s"]) < 5
    assert shown["agreements"][0]["owner"] == "highway-patrol"
    assert harness.script.tokens == ["Bearer a-token"]


async def test_can_i_exits_with_3_if_not(harness: Harness) -> None:
    ran = await harness.entente("can-i", "publish", "crash-reports")
    assert (ran.code, ran.lines[0]["permitted"], ran.lines[0]["record_types"]) == (0, True, ["t.v1"])
    harness.script.permitted = False
    ran = await harness.entente("can-i", "subscribe", "crash-reports", "--purpose", "care")
    assert (ran.code, ran.lines[0]["permitted"]) == (3, False)


async def test_an_unknown_purpose_is_answered_with_the_vocabulary(harness: Harness) -> None:
    ran = await harness.entente("can-i", "subscribe", "crash-reports", "--purpose", "curiosity")
    assert (ran.code, ran.out) == (3, "")
    assert "vocabulary: care, statistics" in ran.err
    assert "reference ref-1" in ran.err


async def test_subscribing_needs_a_purpose(harness: Harness) -> None:
    ran = await harness.entente("can-i", "subscribe", "crash-reports")
    assert ran.code == 2
    assert harness.script.calls == {}


@pytest.mark.parametrize(
    ("name", "member", "expected"),
    [
        ("topics", "name", "crash-reports"),
        ("types", "fields", {"$.name": ["pii"]}),
        ("agencies", "title", "Emergency Medical Services"),
        ("vocabulary", "classifications", ["clear", "green"]),
    ],
)
async def test_the_catalog_is_listed(harness: Harness, name: str, member: str, expected: object) -> None:
    ran = await harness.entente("catalog", name)
    assert (ran.code, ran.lines[0][member]) == (0, expected)


@pytest.mark.parametrize(
    ("name", "kind"), [("crash-reports", "topic"), ("t.v1", "record type"), ("ems", "agency")]
)
async def test_one_thing_of_the_catalog_is_shown(harness: Harness, name: str, kind: str) -> None:
    ran = await harness.entente("catalog", "show", name)
    assert (ran.code, ran.lines[0]["kind"]) == (0, kind)


async def test_what_is_not_in_the_catalog_is_unknown(harness: Harness) -> None:
    ran = await harness.entente("catalog", "show", "secrets")
    assert (ran.code, ran.out) == (3, "")
    assert "might not exist" in ran.err


async def test_output_is_a_table_or_json_on_request(harness: Harness) -> None:
    table = await harness.entente("catalog", "topics", "-o", "table")
    assert "steward" in table.out
    assert "highway-patrol" in table.out
    array = await harness.entente("-o", "json", "catalog", "topics")  # also before the command
    assert json.loads(array.out)[0]["steward"] == "highway-patrol"
    beaten = await harness.entente("-o", "table", "catalog", "topics", "-o", "jsonl")
    assert beaten.lines[0]["may_publish"] is True


async def test_documents_of_an_array_are_published_with_their_ids(harness: Harness, tmp_path: Path) -> None:
    content = {"vulnerabilities": [{"cveID": "CVE-1", "v": 1}, {"cveID": "CVE-2", "v": 2}]}
    (tmp_path / "kev.json").write_text(json.dumps(content))
    arguments = ["publish", "vulnerabilities", "--type", "t.v1", "--label", "dataclassification=green"]
    arguments += ["--records", "$.vulnerabilities", "--id", "$.cveID", "--id", "$.v", "--subject", "$.cveID"]
    arguments += [
        "--label",
        "purposes=a",
        "--label",
        "purposes=b",
        "--time",
        "2026-01-31T12:00:00Z",
        "kev.json",
    ]
    ran = await harness.entente(*arguments)
    assert (ran.code, ran.err) == (0, "")
    assert ran.lines == [{"published": 2, "duplicates": 0, "refused": 0, "unknown": 0}]
    stored = harness.script.log[0]
    assert (stored.id, stored.source, stored.type) == ("CVE-1/1", "//ems/cli", "t.v1")
    assert stored.attributes["subject"].ce_string == "CVE-1"
    assert stored.attributes["purposes"].ce_string == "a,b"
    assert stored.attributes["time"].ce_timestamp.seconds == 1_769_860_800
    assert json.loads(stored.text_data) == {"cveID": "CVE-1", "v": 1}
    again = await harness.entente(*arguments)
    assert again.lines[0]["duplicates"] == 2


async def test_a_part_that_is_refused_is_told_by_place_and_ends_in_6(
    harness: Harness, tmp_path: Path
) -> None:
    (tmp_path / "lines.jsonl").write_text(
        '{"id": "1"}\n{"id": "1", "x": 2}\n{oops\n{"no": "id"}\n{"id": "2"}\n'
    )
    arguments = ["publish", "t", "--type", "t.v1", "--label", "dataclassification=green", "--id", "$.id"]
    ran = await harness.entente(*arguments, "lines.jsonl", "--source", "//ems/x")
    assert ran.code == 6
    assert ran.lines == [{"published": 2, "duplicates": 0, "refused": 3, "unknown": 0}]
    assert "document 2 (id 1): ID_REUSED" in ran.err
    assert "document 3: it is not JSON" in ran.err
    assert "document 4: $.id selects 0 values" in ran.err
    assert "oops" not in ran.err
    assert harness.script.calls == {"PublishStream": 1}  # a given source asks for no identity


async def test_everything_refused_ends_in_3(harness: Harness, tmp_path: Path) -> None:
    (tmp_path / "one.json").write_text("{}")
    ran = await harness.entente("publish", "t", "--type", "t.v1", "one.json")
    assert (ran.code, ran.lines[0]["refused"]) == (3, 1)
    assert "LABEL_INVALID" in ran.err
    assert "reference ref-1" in ran.err


async def test_an_error_after_a_part_was_published_ends_in_6(
    harness: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors.publishing.UNANSWERED_BATCHES", 1)
    (tmp_path / "many.jsonl").write_text("".join(f'{{"id": {number}}}\n' for number in range(501)))
    harness.script.break_after = [1, 0, 0, 0, 0]
    arguments = ["publish", "t", "--type", "t.v1", "--label", "dataclassification=green", "--id", "$.id"]
    ran = await harness.entente(*arguments, "many.jsonl")
    assert ran.code == 6
    assert ran.lines == [{"published": 500, "duplicates": 0, "refused": 0, "unknown": 1}]
    assert "STORAGE_UNAVAILABLE" in ran.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("--label", "dataclassification"),
        ("--records", "vulnerabilities"),
        ("--id", "$..id"),
        ("--subject", "$["),
        ("--time", "yesterday"),
        ("--unknown",),
    ],
)
async def test_faulty_options_are_usage_errors_before_any_call(
    harness: Harness, arguments: tuple[str, ...]
) -> None:
    write("one.json", "{}")
    ran = await harness.entente("publish", "t", "one.json", "--type", "t.v1", *arguments)
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert harness.script.calls == {}


async def test_a_missing_file_is_a_usage_error(harness: Harness) -> None:
    ran = await harness.entente("publish", "t", "absent.json", "--type", "t.v1")
    assert (ran.code, ran.err.count("\n")) == (2, 1)


async def test_a_dry_run_shows_each_party_and_stores_nothing(harness: Harness) -> None:
    write("two.json", '[{"a": 1}, {"a": 2}]')
    arguments = (
        "publish",
        "t",
        "two.json",
        "--type",
        "t.v1",
        "--label",
        "dataclassification=green",
        "--dry-run",
    )
    ran = await harness.entente(*arguments)
    assert ran.code == 0
    assert [party["effect"] for party in ran.lines[1]["parties"]] == ["notice", "release"]
    # The fake hands everybody the call's first record, so for the second one a field reads otherwise.
    assert ran.lines[1]["parties"][1]["changed"] == ["$.a"]
    assert ran.lines[0]["unreviewed_paths"] == ["$.new"]
    table = await harness.entente(*arguments, "-o", "table")
    assert "transport" in table.out
    assert "no-copy" in table.out
    assert harness.script.log == []


async def test_a_dry_run_of_what_would_be_refused_ends_in_3(harness: Harness) -> None:
    write("two.json", '[{"a": 1}, {"a": 2}]')
    ran = await harness.entente("publish", "t", "two.json", "--type", "t.v1", "--id", "$.a", "--dry-run")
    assert ran.code == 3
    assert [line["refusal"]["reason"] for line in ran.lines] == ["LABEL_INVALID", "LABEL_INVALID"]
    assert ran.err.splitlines() == [
        f"entente: document, record {number} (id {number}): LABEL_INVALID: The labels were refused. (reference ref-1)"
        for number in (1, 2)
    ]


async def test_subscribe_writes_cloudevents_with_cursor_and_disclosure(harness: Harness) -> None:
    harness.script.log += [record(number) for number in range(5)]
    harness.script.notices.add("4")
    ran = await harness.entente("subscribe", "t", "--purpose", "p", "--max", "5")
    assert ran.code == 0
    event = JSONFormat().read(None, json.dumps(ran.lines[0]))
    assert (event.get_id(), event.get_data()) == ("0", {"n": "x"})
    assert ran.lines[0]["disclosure"] == {
        "effect": "release",
        "masked": ["criminal"],
        "obligations": [],
        "decision": None,
    }
    assert ran.lines[4]["notice"] == {"id": "n-1", "type": "t.v1", "owner": "o", "contact": "o@example.org"}
    assert ran.lines[4]["disclosure"]["effect"] == "notice"
    assert harness.script.opens[0].credit.records == 5
    # The cursor of the third record, the last of its batch, goes on with the fourth.
    again = await harness.entente(
        "subscribe", "t", "--purpose", "p", "--from", ran.lines[2]["cursor"], "--max", "2"
    )
    assert [line.get("id", "notice") for line in again.lines] == ["3", "notice"]


async def test_subscribe_writes_withdrawals_as_their_own_kind_of_line(harness: Harness) -> None:
    harness.script.log += [record(number) for number in range(2)]
    harness.script.withdrawn.add("1")
    ran = await harness.entente("subscribe", "t", "--purpose", "p", "--max", "2")
    assert ran.lines[1]["withdrawal"] == {
        "source": ran.lines[0]["source"],
        "id": "1",
        "type": ran.lines[0]["type"],
        "owner": "o",
        "contact": "o@example.org",
        "reason": "wrong",
    }
    assert set(ran.lines[1]) == {"withdrawal", "cursor"}
    table = await harness.entente("subscribe", "t", "--purpose", "p", "--max", "2", "-o", "table")
    assert table.out.splitlines()[2].split() == [
        "withdrawn",
        *table.out.splitlines()[1].split()[1:2],
        "1",
        ran.lines[0]["source"],
    ]


async def test_subscribe_writes_that_the_rules_have_changed_and_counts_it_towards_no_limit(
    harness: Harness,
) -> None:
    harness.script.log += [record(number) for number in range(4)]
    harness.script.change_after += [3, 3]
    arguments = ("subscribe", "t", "--purpose", "p", "--max", "4")
    ran = await harness.entente(*arguments)
    assert [line.get("id") for line in ran.lines] == ["0", "1", "2", None, "3"]
    assert ran.lines[3] == {"policy_change": {}, "cursor": ran.lines[2]["cursor"]}
    table = await harness.entente(*arguments, "-o", "table")
    assert table.out.splitlines()[4] == "the rulebook shows what follows otherwise"


async def test_each_record_is_acknowledged_after_it_was_written(harness: Harness) -> None:
    harness.script.log += [record(number) for number in range(3)]
    arguments = ("subscribe", "t", "--purpose", "p", "--subscription", "intake")
    ran = await harness.entente(*arguments, "--max", "3")
    assert (ran.code, len(ran.lines)) == (0, 3)
    assert harness.script.positions["intake"] == 3
    assert (await harness.entente(*arguments, "--idle-timeout", "0.1")).lines == []


async def test_what_could_not_be_written_is_not_acknowledged(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(line: str) -> None:
        raise OSError(28, "No space left on device")

    harness.script.log.append(record(1))
    monkeypatch.setattr("broker.cli.subscribe.write_line", fail)
    ran = await harness.entente("subscribe", "t", "--purpose", "p", "--subscription", "s", "-o", "jsonl")
    assert ran.code == 1
    assert "No space left" in ran.err
    assert harness.script.acks == []


async def test_a_reader_that_left_is_no_failure(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    def leave(line: str) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    harness.script.log.append(record(1))
    monkeypatch.setattr("broker.cli.subscribe.write_line", leave)
    monkeypatch.setattr("broker.cli.command.discard_output", lambda: None)
    ran = await harness.entente("subscribe", "t", "--purpose", "p", "--subscription", "s", "-o", "jsonl")
    assert (ran.code, ran.err) == (0, "")
    assert harness.script.acks == []


@pytest.mark.parametrize(("count", "expected"), [(0, []), (2, ["0", "1"])])
async def test_subscribe_as_json_is_one_array(harness: Harness, count: int, expected: list[str]) -> None:
    harness.script.log += [record(number) for number in range(count)]
    end = ("--max", str(count)) if count else ("--idle-timeout", "0.1")
    ran = await harness.entente("subscribe", "t", "--purpose", "p", *end, "-o", "json")
    assert [event["id"] for event in json.loads(ran.out)] == expected


async def test_a_record_cannot_reach_into_the_terminal(harness: Harness) -> None:
    hostile = record(1)
    hostile.id = "\x1b]0;owned\x07\x9b2J"
    hostile.text_data = to_json({"a": "\x1b[2J\x9b"})
    harness.script.log.append(hostile)
    for form in ("table", "jsonl", "json"):
        ran = await harness.entente("subscribe", "t", "--purpose", "p", "--max", "1", "-o", form)
        assert "1" in ran.out
        assert not {"\x1b", "\x9b", "\x07"} & set(ran.out)


async def test_subscribe_from_latest_and_from_a_time(harness: Harness) -> None:
    harness.script.log.append(record(1))
    ran = await harness.entente(
        "subscribe", "t", "--purpose", "p", "--from", "latest", "--idle-timeout", "0.1"
    )
    assert (ran.code, ran.lines) == (0, [])
    arguments = ("subscribe", "t", "--purpose", "p", "--from", "2026-01-31T00:00:00Z", "--max", "1")
    assert (await harness.entente(*arguments)).code == 0
    assert harness.script.opens[0].position == exchange_pb2.START_POSITION_LATEST
    assert harness.script.opens[1].time.seconds == 1_769_817_600


@pytest.mark.parametrize("start", ["2026-01-31", "2026-01-31T00:00:00", "yesterday!", "%%%"])
async def test_a_start_that_is_none_is_a_usage_error(harness: Harness, start: str) -> None:
    ran = await harness.entente("subscribe", "t", "--purpose", "p", "--from", start)
    assert (ran.code, harness.script.opens) == (2, [])
    assert "--from" in ran.err


async def test_subscriptions_are_listed_shown_moved_and_deleted(harness: Harness) -> None:
    assert (await harness.entente("subscription", "list")).lines == []
    missing = await harness.entente("subscription", "show", "absent")
    assert (missing.code, missing.out) == (3, "")
    assert "SUBSCRIPTION_NOT_FOUND" in missing.err
    seek = await harness.entente("subscription", "seek", "absent", "--to", base64.b64encode(b"x").decode())
    assert (seek.code, "SUBSCRIPTION_NOT_FOUND" in seek.err) == (3, True)
    assert (await harness.entente("subscription", "seek", "absent", "--to", "soon!")).code == 2


@pytest.mark.parametrize(
    ("status", "reason", "code"),
    [
        (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_EXPIRED", 4),
        (grpc.StatusCode.NOT_FOUND, "TOPIC_NOT_FOUND", 3),
        (grpc.StatusCode.PERMISSION_DENIED, "PURPOSE_NOT_PERMITTED", 3),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED", 3),
        (grpc.StatusCode.INTERNAL, "INTERNAL", 1),
    ],
)
async def test_each_refusal_is_one_line_with_its_reference(
    harness: Harness, status: grpc.StatusCode, reason: str, code: int
) -> None:
    harness.script.refusals.append((status, reason))
    ran = await harness.entente("whoami")
    assert (ran.code, ran.out) == (code, "")
    assert ran.err == f"entente: {reason}: Refused with {reason}. (reference ref-1)\n"


async def test_nobody_listening_ends_in_5(harness: Harness) -> None:
    ran = await harness.entente("whoami", "--endpoint", f"127.0.0.1:{free_port()}")
    assert (ran.code, ran.out, ran.err.count("\n")) == (5, "", 1)


async def test_an_exchange_of_another_authority_is_not_trusted(harness: Harness, tmp_path: Path) -> None:
    other = make_authority("Another authority", ["127.0.0.1"], SystemClock().now_ms())
    (tmp_path / "other.pem").write_bytes(other.certificate_pem)
    ran = await harness.entente("whoami", "--ca-file", str(tmp_path / "other.pem"))
    assert (ran.code, harness.script.tokens) == (5, [])


async def test_a_fault_of_the_program_shows_neither_traceback_nor_message(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("a secret of a record")

    monkeypatch.setattr("broker.cli.identity.identity", fail)
    ran = await harness.entente("whoami")
    assert (ran.code, ran.out, ran.err.count("\n")) == (1, "", 1)
    assert "RuntimeError" in ran.err
    assert "secret" not in ran.err


async def test_subscribe_and_publish_keep_receipts(harness: Harness) -> None:
    write("r.json", '{"n": 1}')
    published = ("publish", "t", "r.json", "--type", "t.v1", "--label", "dataclassification=green")
    assert (await harness.entente(*published, "--receipts", "kept.jsonl")).code == 0
    received = ("subscribe", "t", "--purpose", "p", "--max", "1", "--receipts", "kept.jsonl")
    assert (await harness.entente(*received)).code == 0
    kept = [json.loads(line) for line in read("kept.jsonl").splitlines()]
    assert [(line["kind"], line["agency"], len(line["contents"])) for line in kept] == [
        ("publish", "ems", 1),
        ("delivery", "ems", 1),
    ]


@pytest.mark.parametrize("command", ["publish", "subscribe"])
async def test_receipts_that_cannot_be_kept_are_told_with_their_file(harness: Harness, command: str) -> None:
    write("r.json", '{"n": 1}')
    options = {
        "publish": ("t", "r.json", "--type", "t.v1", "--label", "dataclassification=green"),
        "subscribe": ("t", "--purpose", "p", "--max", "1"),
    }
    ran = await harness.entente(command, *options[command], "--receipts", "missing/kept.jsonl")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "entente: missing/kept.jsonl: No such file or directory\n"
    assert harness.script.log == []
