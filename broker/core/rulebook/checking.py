"""Checks of proposals, beside everything else that the exchange does.

One at a time an agency, and of all agencies one after the other; the exchange's own wait for none of them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from broker.core.control.desk import ControlDesk
from broker.core.control.fold import EventVoid
from broker.core.evidence import Evidence, who
from broker.core.rulebook.examined import Examiner
from broker.core.rulebook.findings import Finding, Severity
from broker.core.rulebook.proposals import Check, Proposal, SaidOf, Standing, check_body, standing
from broker.core.rulebook.submission import Submission
from broker.errors import EntenteError, Reason, fault_place
from broker.model.ledger import JsonValue
from broker.model.principal import Principal

log = logging.getLogger(__name__)

_STOPPED = Finding(
    "rulebook", None, "the exchange stopped while it checked this", "propose it again, as another version"
)
WAITING_MOST = 8
"""Examinations that run or wait here; each may take minutes."""


class Checking:
    """Examines proposals and records what was found; used from one event loop."""

    def __init__(self, examiner: Examiner, control: ControlDesk, evidence: Evidence) -> None:
        self._examiner = examiner
        self._control = control
        self._evidence = evidence
        self._agencies: set[str] = set()
        self._turns = {True: asyncio.Lock(), False: asyncio.Lock()}
        self._running: set[asyncio.Task[None]] = set()

    @contextmanager
    def place(self, agency: str, *, sees_all: bool) -> Iterator[None]:
        """A place in the queue, to be taken before anything is stored. Raises EntenteError LIMIT_EXCEEDED.

        Agencies that fill the queue do not keep the exchange's administrators, who see all, from changing anything.
        """
        if agency in self._agencies:
            raise EntenteError(Reason.LIMIT_EXCEEDED, "one proposal of an agency that is checked at a time")
        if len(self._agencies) >= WAITING_MOST and not sees_all:
            raise EntenteError(Reason.LIMIT_EXCEEDED, f"{WAITING_MOST} proposals that wait to be checked")
        self._agencies.add(agency)
        try:
            yield
        finally:
            self._agencies.discard(agency)

    def start(
        self,
        principal: Principal,
        proposal: Proposal,
        submission: Submission,
        agency: str | None,
        place: ExitStack,
    ) -> asyncio.Task[None]:
        """Check it, and give up its place then. agency: whose part alone it may change, if it is only one's."""

        async def check() -> None:
            with place:
                async with self._turns[agency is None]:
                    found = await self._examiner.examine(submission.present, submission.proposed, agency)
                await self._record(who(principal), proposal, found)

        task = asyncio.get_running_loop().create_task(check())
        self._running.add(task)
        task.add_done_callback(self._over)
        return task

    async def close(self) -> None:
        """End what runs: such a proposal stays unchecked, and has to be proposed again."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def settle(self, instance: str) -> None:
        """Say of proposals that this instance was checking when it stopped that they have to be proposed again."""
        state = self._control.state
        for proposal in state.proposals.by_id.values():
            if proposal.instance == instance and standing(proposal, state.activations) is Standing.CHECKING:
                try:
                    await self._record(None, proposal, Check(False, (SaidOf(_STOPPED, _STOPPED.what),)))
                except EntenteError as error:
                    log.error("the proposal %s stays unchecked: %s", proposal.id, error.reason.name)

    async def _record(self, by: dict[str, JsonValue] | None, proposal: Proposal, found: Check) -> None:
        errors = sum(each.finding.severity is Severity.ERROR for each in found.findings)
        change: dict[str, JsonValue] = {
            "what": "checked",
            "proposal": proposal.id,
            "revision": proposal.revision,
            "accepted": found.accepted,
            "errors": errors,
            "warnings": len(found.findings) - errors,
        }
        body: dict[str, JsonValue] = {"change": change, "decisions": []}
        if by is not None:
            body["who"] = dict(by)
        await self._evidence.write("rulebook_changed", body)
        event = {"proposal": proposal.id, "version": proposal.position, **check_body(found)}
        try:
            await self._control.record("checked", event)
        except EventVoid:
            log.info("a check of the proposal %s came too late: there is another version of it", proposal.id)

    def _over(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a proposal was not checked to the end: %s", fault_place(error))
