"""How a proposal is received: bounded, in order, in time, and not at all from who administers nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from broker.core.rulebook.difference import Change, How
from broker.errors import EntenteError, Reason
from broker.model.principal import Principal
from broker.rpc import rulebook
from broker.rpc.call import Call
from broker.rpc.quotas import QuotaLimits, Quotas
from broker.rpc.rulebook import RulebookServicer
from broker.rpc.rulebook_messages import CHANGES_BYTES, add_changes
from protos.entente.v1 import rulebook_pb2 as pb
from tests.fakes.clock import TurnedClock
from tests.fakes.overlays import agency_admin, person
from tests.fakes.proposing import Proposing

MESSAGE_BYTES = 4_096
HEADING = pb.ProposeRequest(heading=pb.ProposalHeading(message="why"))
CHUNK = pb.ProposeRequest(archive=b"a" * 1_000)


class Sent:
    """A Call whose client has sent these messages, and then nothing more: `silent`, it does not even say so."""

    def __init__(
        self, principal: Principal, messages: Sequence[pb.ProposeRequest], *, silent: bool = False
    ) -> None:
        self.caller = principal
        self.left = [message.SerializeToString() for message in messages]
        self.silent = silent
        self.answers: list[bytes] = []

    async def read(self) -> bytes | None:
        if self.left:
            return self.left.pop(0)
        if self.silent:
            await asyncio.Event().wait()
        return None

    async def write(self, message: bytes) -> None:
        self.answers.append(message)


@pytest.fixture
def parts(tmp_path: Path) -> Proposing:
    return Proposing(tmp_path)


def servicer(parts: Proposing, idle_s: float = 60.0) -> RulebookServicer:
    return RulebookServicer(
        proposing=parts.proposing,
        desk=parts.desk,
        reading=cast(Any, None),
        simulations=cast(Any, None),
        quotas=Quotas(QuotaLimits(), TurnedClock()),
        idle_s=idle_s,
        message_bytes=MESSAGE_BYTES,
    )


async def refusal(parts: Proposing, sent: Sent, idle_s: float = 60.0) -> Reason:
    with pytest.raises(EntenteError) as error:
        await servicer(parts, idle_s).propose(cast(Call, sent))
    assert sent.answers == []
    return error.value.reason


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([], Reason.STREAM_PROTOCOL),
        ([CHUNK, HEADING], Reason.STREAM_PROTOCOL),
        ([HEADING, HEADING], Reason.STREAM_PROTOCOL),
        ([HEADING, CHUNK, pb.ProposeRequest()], Reason.STREAM_PROTOCOL),
        ([HEADING, CHUNK], Reason.RULEBOOK_REFUSED),
        ([HEADING], Reason.RULEBOOK_REFUSED),
        ([HEADING, pb.ProposeRequest(archive=b"a" * 5_000)], Reason.MESSAGE_TOO_LARGE),
    ],
)
async def test_what_is_no_proposal_is_refused(
    parts: Proposing, messages: list[pb.ProposeRequest], reason: Reason
) -> None:
    assert await refusal(parts, Sent(agency_admin("ems"), messages)) is reason
    assert parts.agreed.kinds() == ["genesis"]


async def test_an_archive_is_bounded(parts: Proposing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rulebook, "ARCHIVE_BYTES", 10_000)
    sent = Sent(agency_admin("ems"), [HEADING, *[CHUNK] * 1_000])
    assert await refusal(parts, sent) is Reason.RULEBOOK_REFUSED
    assert len(sent.left) > 980, "read on after it was too much"


async def test_whoever_administers_nothing_is_refused_before_anything_is_read(parts: Proposing) -> None:
    sent = Sent(person("ems", "paramedic", "p"), [HEADING, CHUNK])
    assert await refusal(parts, sent) is Reason.ADMINISTRATION_DENIED
    assert len(sent.left) == 2


async def test_who_sends_nothing_more_gives_up_the_place(parts: Proposing) -> None:
    sent = Sent(agency_admin("ems"), [HEADING], silent=True)
    assert await refusal(parts, sent, idle_s=0.01) is Reason.STREAM_PROTOCOL
    assert await refusal(parts, Sent(agency_admin("ems"), [HEADING])) is Reason.RULEBOOK_REFUSED


async def test_an_agency_sends_one_at_a_time(parts: Proposing) -> None:
    waiting = asyncio.ensure_future(
        servicer(parts).propose(cast(Call, Sent(agency_admin("ems"), [HEADING], silent=True)))
    )
    await asyncio.sleep(0)
    sent = Sent(agency_admin("ems", "admin-2"), [HEADING, CHUNK])
    assert await refusal(parts, sent) is Reason.LIMIT_EXCEEDED
    assert len(sent.left) == 2
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert await refusal(parts, Sent(agency_admin("ems"), [HEADING, CHUNK])) is Reason.RULEBOOK_REFUSED


async def test_a_message_holds_no_more_changes_than_clients_take() -> None:
    many = [Change("agreement", f"a-{n}", How.ADDED, "ems", "f" * 500, n) for n in range(10_000)]
    into = pb.Proposal()
    assert add_changes(into.changes, many)
    assert 1_000 < len(into.changes) < 10_000
    assert into.ByteSize() < 1.1 * CHANGES_BYTES
    assert into.changes[0].name == "a-0"
    assert not add_changes(pb.Proposal().changes, many[:10])
