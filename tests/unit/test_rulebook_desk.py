"""Proposals on their way: evidence before effect, and nothing is taken for what it no longer is."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from broker.core.rulebook.checking import WAITING_MOST
from broker.core.rulebook.findings import Finding
from broker.core.rulebook.manifest import unverified_manifest
from broker.core.rulebook.proposals import Check, SaidOf, Standing
from broker.core.rulebook.scope import HIDDEN
from broker.errors import EntenteError, Reason
from broker.model.principal import Principal
from tests.fakes.overlays import person
from tests.fakes.proposing import Proposing, agency_admin, exchange_admin

OWN = {"agencies/ems/module.rego": b"package agencies.ems\n"}
OTHER = {"agencies/ems/module.rego": b"package agencies.ems\n# other\n"}
TOPICS = "data/topics/data.yaml"
EMS, EMS_2 = agency_admin("ems"), agency_admin("ems", "admin-2")
ANN, BOB = exchange_admin(), exchange_admin("admin-2")


@pytest.fixture
def parts(tmp_path: Path) -> Proposing:
    return Proposing(tmp_path)


async def reason(asked: Any) -> Reason:
    """Why a call is refused."""
    with pytest.raises(EntenteError) as error:
        await asked
    return error.value.reason


async def proposed(parts: Proposing, principal: Principal = EMS, **heading: str) -> str:
    """A proposal that was checked."""
    shown = await parts.propose(principal, OWN, **heading)
    return shown[-1].proposal.id


async def approved(parts: Proposing) -> str:
    """A proposal that can be activated."""
    proposal = await proposed(parts)
    await parts.desk.approve(EMS_2, proposal, await revision_of(parts, proposal))
    return proposal


async def revision_of(parts: Proposing, proposal: str, principal: Principal = EMS_2) -> str:
    """The proposal's revision as it is shown."""
    return (await parts.desk.get(principal, proposal)).revision


async def test_a_change_takes_its_way(parts: Proposing) -> None:
    stored, checked = await parts.propose(EMS, OWN)
    assert (stored.standing, checked.standing) == (Standing.CHECKING, Standing.OPEN)
    assert checked.missing == ("approval-missing: ems",)
    await parts.desk.approve(EMS_2, checked.proposal.id, checked.revision)
    done = await parts.desk.activate(EMS, checked.proposal.id)
    assert done.revision == checked.revision != checked.proposal.revision
    assert parts.agreed.activated == [checked.proposal.revision]
    assert parts.changes() == ["proposed", "checked", "approved", "activated"]
    assert parts.examiner.asked == [(checked.proposal.revision, "ems")]
    (note,) = parts.store.notes[checked.proposal.revision]
    manifest = unverified_manifest(note)
    assert (manifest.author, manifest.parent, manifest.message) == (("ems", "admin-1"), parts.first.id, "why")
    again = await parts.desk.activate(EMS_2, checked.proposal.id)
    assert (again.revision, len(parts.agreed.activated)) == (done.revision, 1)


async def test_nothing_happens_that_the_ledger_cannot_tell(parts: Proposing) -> None:
    parts.ledger.failures = 1
    assert await reason(parts.propose(EMS, OWN)) is Reason.LEDGER_UNAVAILABLE
    assert list(parts.store.revisions) == [parts.first.id]
    assert parts.agreed.kinds() == ["genesis"]
    proposal = await approved(parts)
    events = parts.agreed.kinds()
    third = agency_admin("ems", "admin-3")
    for step in (
        parts.desk.approve(third, proposal, await revision_of(parts, proposal)),
        parts.desk.reject(EMS, proposal, "no"),
        parts.desk.activate(EMS, proposal),
    ):
        parts.ledger.failures = 1
        assert await reason(step) is Reason.LEDGER_UNAVAILABLE
    assert (parts.agreed.kinds(), parts.agreed.activated) == (events, [])


async def test_an_approval_is_of_the_version_that_was_looked_at(parts: Proposing) -> None:
    proposal = await proposed(parts)
    looked_at = await revision_of(parts, proposal)
    await parts.propose(EMS, OTHER, proposal=proposal)
    assert await reason(parts.desk.approve(EMS_2, proposal, looked_at)) is Reason.PROPOSAL_CHANGED
    assert parts.library.find(view := await parts.desk.view(EMS), proposal).approvals == ()
    assert view.agency == "ems"


async def test_another_version_that_comes_while_the_ledger_is_written_is_not_approved(
    parts: Proposing,
) -> None:
    proposal = await proposed(parts)
    shown = await revision_of(parts, proposal)
    parts.agreed.before["approved"] = lambda: another_version(parts, proposal)
    assert await reason(parts.desk.approve(EMS_2, proposal, shown)) is Reason.PROPOSAL_CHANGED
    assert parts.library.find(await parts.desk.view(EMS), proposal).approvals == ()


async def test_another_version_that_comes_while_the_ledger_is_written_is_not_activated(
    parts: Proposing,
) -> None:
    proposal = await approved(parts)
    parts.ledger.hold = asyncio.Event()
    parts.ledger.asked.clear()
    activating = asyncio.ensure_future(parts.desk.activate(EMS, proposal))
    await parts.ledger.asked.wait()
    another_version(parts, proposal)
    parts.ledger.hold.set()
    assert await reason(activating) is Reason.PROPOSAL_CHANGED
    assert parts.agreed.activated == []


async def test_what_came_into_force_meanwhile_makes_it_stale(parts: Proposing) -> None:
    proposal = await approved(parts)
    parts.ledger.hold = asyncio.Event()
    parts.ledger.asked.clear()
    activating = asyncio.ensure_future(parts.desk.activate(EMS, proposal))
    await parts.ledger.asked.wait()
    parts.agreed.switch("sha256:other")
    parts.store.revisions["sha256:other"] = parts.first
    parts.ledger.hold.set()
    assert await reason(activating) is Reason.PROPOSAL_STALE
    assert parts.agreed.activated == []
    assert await reason(parts.desk.activate(EMS, proposal)) is Reason.PROPOSAL_STALE


async def test_what_was_found_about_one_version_is_not_said_of_another(parts: Proposing) -> None:
    """Two instances take a version of one proposal each, at once."""
    proposal = await proposed(parts)
    parts.examiner.asked.clear()

    parts.agreed.before["checked"] = lambda: another_version(parts, proposal)
    shown = await parts.propose(EMS, OTHER, proposal=proposal)
    assert len(parts.examiner.asked) == 1
    assert shown[-1].standing is Standing.CHECKING
    assert shown[-1].proposal.revision == "sha256:elsewhere"
    assert parts.agreed.kinds()[-2:] == ["proposed", "checked"], "the check is there, and does not count"


async def test_a_version_that_was_replaced_before_it_was_heard_of_is_not_checked(parts: Proposing) -> None:
    proposal = await proposed(parts)
    parts.agreed.after["proposed"] = lambda: another_version(parts, proposal)
    parts.examiner.asked.clear()
    assert await reason(parts.propose(EMS, OTHER, proposal=proposal)) is Reason.PROPOSAL_CHANGED
    assert parts.examiner.asked == []


async def test_whoever_stops_listening_ends_nothing(parts: Proposing) -> None:
    parts.examiner.may.clear()
    listening = asyncio.ensure_future(parts.propose(EMS, OWN))
    await parts.examiner.begun.wait()
    listening.cancel()
    assert (await asyncio.gather(listening, return_exceptions=True))[0].__class__ is asyncio.CancelledError
    assert await reason(parts.propose(EMS_2, OTHER)) is Reason.LIMIT_EXCEEDED
    parts.examiner.may.set()
    while parts.agreed.kinds()[-1] != "checked":  # noqa: ASYNC110 - turns of the event loop, no time
        await asyncio.sleep(0)
    await proposed(parts, EMS_2)


async def test_what_was_being_checked_when_the_exchange_stopped_has_to_be_proposed_again(
    parts: Proposing,
) -> None:
    parts.examiner.may.clear()
    listening = asyncio.ensure_future(parts.propose(EMS, OWN))
    await parts.examiner.begun.wait()
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
    await parts.proposing.close()
    (proposal,) = parts.agreed.state.proposals.by_id

    await parts.checking.settle("another")
    assert (await parts.desk.get(EMS, proposal)).standing is Standing.CHECKING
    await parts.checking.settle("one")
    shown = await parts.desk.get(EMS, proposal)
    assert shown.standing is Standing.REFUSED
    assert [finding.what for finding in shown.findings or ()] == [
        "the exchange stopped while it checked this"
    ]
    parts.examiner.may.set()
    assert (await parts.propose(EMS, OWN, proposal=proposal))[-1].standing is Standing.OPEN
    await parts.checking.settle("one")
    assert (await parts.desk.get(EMS, proposal)).standing is Standing.OPEN


async def test_agencies_that_fill_the_queue_do_not_keep_the_exchange_from_anything(
    parts: Proposing,
) -> None:
    async with AsyncExitStack() as stack:
        for number in range(WAITING_MOST):
            await stack.enter_async_context(parts.proposing.place(agency_admin(f"agency-{number}")))
        assert await reason(parts.propose(EMS, OWN)) is Reason.LIMIT_EXCEEDED
        changed = {TOPICS: parts.first.files[TOPICS] + b"\n# more\n"}
        shown = await parts.propose(ANN, changed)
        assert shown[-1].standing is Standing.OPEN
    await proposed(parts)


async def test_a_refused_proposal_gives_its_place_back(parts: Proposing) -> None:
    assert await reason(parts.propose(EMS, {})) is Reason.RULEBOOK_UNCHANGED
    assert await reason(parts.propose(EMS, {TOPICS: b"{}\n"})) is Reason.RULEBOOK_REFUSED
    assert await reason(parts.propose(person("ems", "paramedic", "p"), OWN)) is Reason.ADMINISTRATION_DENIED
    await proposed(parts)


async def test_what_has_errors_or_is_unchecked_goes_no_further(parts: Proposing) -> None:
    secret = SaidOf(Finding("data/agreements/highway-patrol/data.yaml", 3, "secret", "correct it"))
    parts.examiner.check = Check(False, (secret,))
    proposal = await proposed(parts)
    shown = await parts.desk.get(EMS, proposal)
    assert (shown.standing, shown.findings, shown.missing) == (Standing.REFUSED, (HIDDEN,), ())
    for step in (
        parts.desk.approve(EMS_2, proposal, shown.revision),
        parts.desk.activate(EMS, proposal),
    ):
        assert await reason(step) is Reason.PROPOSAL_UNCHECKED
    assert (await parts.desk.get(ANN, proposal)).findings == (secret.finding,)


async def test_of_other_sides_an_agency_learns_only_that_there_are_some(parts: Proposing) -> None:
    path = "data/agreements/highway-patrol/data.yaml"
    changed = {
        **OWN,
        path: parts.first.files[path] + b"\n# more\n",
        TOPICS: parts.first.files[TOPICS] + b"\n",
    }
    proposal = (await parts.propose(ANN, changed))[-1].proposal.id
    whole, part = await parts.desk.get(BOB, proposal), await parts.desk.get(EMS, proposal)
    assert whole.missing == tuple(
        f"approval-missing: {side}" for side in ("ems", "exchange", "highway-patrol")
    )
    assert part.missing == ("approval-missing: ems", "approval-missing: others")
    assert part.areas == (("module", "ems"),)
    assert {change.file for change in part.changes} == {"agencies/ems/module.rego"}
    await parts.desk.approve(
        agency_admin("highway-patrol"),
        proposal,
        (await parts.desk.get(agency_admin("highway-patrol"), proposal)).revision,
    )
    assert (await parts.desk.get(EMS, proposal)).approvals == ()
    assert await reason(parts.desk.get(agency_admin("transport"), proposal)) is Reason.PROPOSAL_NOT_FOUND


async def test_why_an_instance_cannot_prepare_it_is_the_exchanges_to_know(parts: Proposing) -> None:
    proposal = await approved(parts)
    parts.agreed.refusal = EntenteError(
        Reason.ACTIVATION_FAILED, "the instance 'b' cannot prepare it: secret"
    )
    with pytest.raises(EntenteError) as error:
        await parts.desk.activate(EMS, proposal)
    assert error.value.reason is Reason.ACTIVATION_FAILED
    assert "secret" not in str(error.value)
    assert parts.changes()[-2:] == ["activated", "abandoned"]


async def test_a_rejected_proposal_is_closed_for_good(parts: Proposing) -> None:
    proposal = await approved(parts)
    shown = await parts.desk.reject(EMS, proposal, "no")
    assert (shown.standing, shown.proposal.reason) == (Standing.REJECTED, "no")
    for step in (
        parts.desk.activate(EMS, proposal),
        parts.desk.reject(EMS, proposal, "again"),
        parts.desk.approve(EMS_2, proposal, shown.revision),
        parts.propose(EMS, OTHER, proposal=proposal),
    ):
        assert await reason(step) is Reason.PROPOSAL_CLOSED
    assert await reason(parts.desk.reject(EMS, proposal, " ")) is Reason.REQUEST_INVALID


async def test_approving_twice_is_one_approval(parts: Proposing) -> None:
    proposal = await approved(parts)
    events = parts.agreed.kinds()
    again = await parts.desk.approve(EMS_2, proposal, await revision_of(parts, proposal))
    assert (len(again.approvals), parts.agreed.kinds()) == (1, events)


async def test_the_version_of_another_agency_is_not_ones_own(parts: Proposing) -> None:
    proposal = await proposed(parts)
    changed = {TOPICS: parts.first.files[TOPICS] + b"\n# more\n"}
    assert await reason(parts.propose(ANN, changed, proposal=proposal)) is Reason.PROPOSAL_NOT_FOUND
    assert await reason(parts.propose(EMS, OWN, proposal="missing")) is Reason.PROPOSAL_NOT_FOUND


def another_version(parts: Proposing, proposal: str) -> None:
    """As another instance takes it."""
    body = {
        "proposal": proposal,
        "revision": "sha256:elsewhere",
        "parent": parts.first.id,
        "by": {"agency": "ems", "subject": "admin-1"},
        "message": "other",
        "areas": [{"kind": "module", "owner": "ems"}],
    }
    parts.store.revisions["sha256:elsewhere"] = parts.first
    parts.agreed.put("proposed", body)
