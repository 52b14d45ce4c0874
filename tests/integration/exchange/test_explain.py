"""Why, over gRPC: each as far as it may know, and nothing tells what is hidden from what is absent."""

from __future__ import annotations

import json
from typing import Any

import pytest

from protos.entente.v1 import rulebook_pb2 as pb
from protos.entente.v1 import rulebook_pb2_grpc
from protos.entente.v1.exchange_pb2 import Credit
from tests.integration.exchange.failure import Failure, failure_in
from tests.integration.exchange.live import Caller, Live
from tests.integration.exchange.records import crash

pytestmark = [pytest.mark.opa, pytest.mark.asyncio(loop_scope="session")]

CRASH = "gov.niem.crash-driver.v1"
OWNER, AUDITOR, CONSUMER = "highway-patrol-admin", "auditor-1", "transport"
AGREEMENTS = "data/agreements/highway-patrol/data.yaml"


def ask(caller: Caller, **about: Any) -> Any:
    stub = rulebook_pb2_grpc.RulebookStub(caller.channel)
    return stub.Explain(pb.ExplainRequest(**about), metadata=caller.metadata, timeout=60)


async def explain(caller: Caller, **about: Any) -> list[pb.Explanation]:
    return list((await ask(caller, **about)).explanations)


def question(agency: str = "transport", **more: Any) -> pb.ExplainQuestion:
    given: dict[str, Any] = {"agency": agency, "purpose": "law-enforcement", "topic": "crash-reports"}
    return pb.ExplainQuestion(**(given | more))


def any_crash(owner: str = "highway-patrol", type_: str = CRASH) -> pb.ExplainRecordKind:
    return pb.ExplainRecordKind(owner=owner, type=type_, classification="amber")


async def refused(live: Live, topic: str) -> Failure:
    async with live.caller(CONSUMER).stream(topic) as stream:
        return await stream.failure()


async def test_an_owner_sees_which_agreement_came_nearest_and_what_it_lacks(live: Live) -> None:
    (found,) = await explain(live.caller(OWNER), question=question(kind=any_crash()))
    assert json.loads(found.full.output)["effect"] == "withhold"
    assert "entente.delivering.grant" in {place.what for place in found.full.rules}
    nearest = found.full.agreements[0]
    assert nearest.place.what == "agreement highway-patrol/transport-crash-statistics"
    assert nearest.unmet == "its purposes are road-safety-statistics"
    assert (nearest.place.file, nearest.place.line > 1) == (AGREEMENTS, True)


async def test_a_record_that_was_published_is_explained_by_its_name(live: Live) -> None:
    record = crash("{}")
    await live.caller("highway-patrol").publish_all("crash-reports", record)
    named = pb.ExplainRecord(source=record.source, id=record.id)
    asked = question("ems", named=named, purpose="emergency-response", roles=["paramedic"])
    asked.attributes["clearance"] = "red"
    (found,) = await explain(live.caller(OWNER), question=asked)
    assert json.loads(found.full.output)["effect"] == "release"
    assert [(each.place.what, each.unmet) for each in found.full.agreements] == [
        ("agreement highway-patrol/ems-crash-reports", "")
    ]


async def test_a_refused_call_is_explained_by_its_reference(live: Live) -> None:
    info = (await refused(live, "nothing-there")).info
    assert info is not None
    reference = info.metadata["reference"]
    (own,) = await explain(live.caller(CONSUMER), reference=reference)
    assert (list(own.public.reasons), own.public.ask) == ([], "operations@exchange.example")
    (whole,) = await explain(live.caller(AUDITOR), reference=reference)
    assert json.loads(whole.full.output)["reasons"] == ["topic-unknown"]
    for stranger in ("ems", OWNER):
        assert (await failure_in(ask(live.caller(stranger), reference=reference))).reason == "ENTRY_NOT_FOUND"


async def test_a_decision_is_explained_by_its_place_to_the_owner_and_to_nobody_else(live: Live) -> None:
    record = crash("{}")
    await live.caller("highway-patrol").publish_all("crash-reports", record)
    async with live.caller("ems").stream("crash-reports", credit=Credit(records=1)) as stream:
        await stream.deliveries(1)
    index = next(number for number, entry in enumerate(live.ledger()) if entry["kind"] == "delivery")
    place = pb.ExplainDecision(instance="broker", index=index)
    (found,) = await explain(live.caller(OWNER), decision=place)
    assert json.loads(found.full.output)["effect"] == "release"
    for stranger in ("ems", "ems-admin", "transport-admin"):
        hidden = await failure_in(ask(live.caller(stranger), decision=place))
        missing = await failure_in(
            ask(live.caller(stranger), decision=pb.ExplainDecision(instance="broker", index=10**9))
        )
        assert hidden.reason == missing.reason == "ENTRY_NOT_FOUND"
        assert hidden.message.replace(f"/{index}#", f"/{10**9}#") == missing.message


@pytest.mark.parametrize("who", ["ems", "ems-admin"])
async def test_what_is_hidden_and_what_is_not_there_have_one_answer(live: Live, who: str) -> None:
    """Somebody explores what others have agreed on, and what there is."""
    caller, record = live.caller(who), crash("{}")
    await live.caller("highway-patrol").publish_all("crash-reports", record)
    asked = [
        question("transport", kind=any_crash("cyber-centre", "gov.cisa.kev.v1"), topic="vulnerabilities"),
        question("transport", kind=any_crash("cyber-centre", "no.such.type"), topic="vulnerabilities"),
        question("partner-cert", topic="vulnerabilities", purpose="cyber-defence"),
        question("partner-cert", topic="no-such-topic", purpose="cyber-defence"),
        question("nobody", topic="vulnerabilities"),
        question("ems", topic="vulnerabilities", purpose="emergency-response", kind=any_crash("transport")),
    ]
    answers = {(await explain(caller, question=each))[0].SerializeToString() for each in asked[:1]}
    for each in asked[1:]:
        (answer,) = await explain(caller, question=each)
        if who == "ems-admin" and each.WhichOneof("record") is None:
            assert (answer.full.output, len(answer.full.rules), len(answer.full.agreements)) == ("", 0, 0)
        else:
            answers.add(answer.SerializeToString())
    assert len(answers) == 1
    named = [pb.ExplainRecord(source=record.source, id=name) for name in (record.id, "missing")]
    told = [(await explain(caller, question=question("transport", named=each)))[0] for each in named]
    assert told[0].SerializeToString() == told[1].SerializeToString()


async def test_who_asks_why_is_in_the_ledger(live: Live) -> None:
    await explain(live.caller(OWNER), question=question(kind=any_crash()))
    read = live.ledger("ledger_read")[-1]
    assert (read["who"]["agency"], read["query"]["method"]) == ("highway-patrol", "Explain")
    assert read["query"]["about"]["agency"] == "transport"
