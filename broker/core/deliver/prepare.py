"""From records read to deliveries: decide each, apply overlays, redact, until the budget is used up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum

from broker.core.decide import ENGINE_FAULT
from broker.core.deliver.account import Account
from broker.core.deliver.budget import Budget
from broker.core.deliver.lens import Lens
from broker.core.deliver.standing import Lag, Progress, Standing
from broker.core.deliver.view import LabelSet, RecordView
from broker.core.deliver.wire import Encoded
from broker.core.in_force import Order
from broker.core.overlay.judge import Judge
from broker.core.overlay.notice import EFFECT, Notice
from broker.core.redact.plan import Unredactable
from broker.core.regime import Regime
from broker.errors import NoDecision
from broker.model.decision import Decision, Effect
from broker.model.record import Chunk
from broker.ports.clock import Clock


@dataclass(slots=True)
class Prepared:
    """What a group is about to release.

    standing: where it stands afterwards. order: by which it was decided and judged. stalled: some record had no decision.
    held: some record's owner has suspended these receivers or the topic. blocked: one that waits holds up its partition.
    cut: the budget, or the room in the entry, ended before the records did. valid_until: when the first of the decisions
    by which something goes out lapses. apart: see GroupKey.
    """

    standing: Standing
    order: Order[Regime]
    apart: str | None = None
    deliveries: list[bytes] = field(default_factory=list)
    size_bytes: int = 0
    account: Account = field(default_factory=Account)
    stalled: bool = False
    held: bool = False
    blocked: bool = False
    cut: bool = False
    valid_until: datetime | None = None

    def has_lapsed(self, now_ms: int) -> bool:
        """Whether a decision by which something goes out holds no longer."""
        return self.valid_until is not None and datetime.fromtimestamp(now_ms / 1000, UTC) >= self.valid_until

    def add(self, encoded: Encoded, valid_until: datetime | None) -> None:
        """One more that goes out, by a decision that holds so long."""
        self.deliveries.append(encoded.entry)
        self.size_bytes += len(encoded.entry)
        if valid_until is not None and (self.valid_until is None or valid_until < self.valid_until):
            self.valid_until = valid_until


UNREGISTERED = "unregistered"
"""The outcome of records that the revision cannot place, about which nothing was decided."""

UNREDACTABLE = "unredactable"
"""The outcome of records that cannot be redacted as decided."""


class _Wait(Enum):
    BEHIND = "behind"
    FIRST = "first"
    BLOCKED = "blocked"


class Preparer:
    """Prepares batches; shared by all groups."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def prepare(self, lens: Lens, chunk: Chunk, budget: Budget, prepared: Prepared) -> None:
        """Add the chunk's records, which begin at `prepared.standing.next`, as far as decisions and budget go."""
        progress = Progress(prepared.standing)
        blocked: set[int] = set()
        may_hold = prepared.order.judge.holds_up_anything
        now_ms = self._clock.now_ms()
        for view, decision in await self._decided(lens, chunk):
            partition = view.stored.partition
            if partition in blocked:
                continue
            held, waits = False, None
            if view.label_set is not None and (decision is None or may_hold or progress.has_lags):
                owner = view.label_set.owner
                held = is_held(lens, owner, prepared, now_ms)
                waits = self._waits(view, owner, decision, held, progress)
            if waits is not None:
                prepared.held = prepared.held or held
                prepared.stalled = prepared.stalled or (waits is not _Wait.BEHIND and not held)
                if waits is _Wait.BLOCKED:
                    prepared.blocked = True
                    blocked.add(partition)
                    continue
            else:
                added = not prepared.account.is_full and self._add_now(lens, view, decision, budget, prepared)
                if added is None:
                    added = await self._add(lens, view, decision, budget, prepared)
                if not added:
                    prepared.cut = True
                    break
            progress.next[partition] = view.stored.offset + 1
        if not blocked and not prepared.cut:
            progress.next = list(chunk.next_positions)
        prepared.standing = progress.standing()

    async def catch_up(self, lens: Lens, chunk: Chunk, lag: Lag, budget: Budget, prepared: Prepared) -> None:
        """Add the lagging owner's records among the chunk's, which begin at the lag's offset in its partition."""
        progress = Progress(prepared.standing)
        end = progress.next[lag.partition]
        reached = chunk.next_positions[lag.partition]
        mine = Chunk(
            tuple(each for each in chunk.records if each.partition == lag.partition and each.offset < end),
            chunk.next_positions,
        )
        for view, decision in await self._decided(lens, mine):
            if view.label_set is None or view.label_set.owner != lag.owner:
                continue
            if decision is None:
                prepared.stalled, reached = True, view.stored.offset
                break
            if prepared.account.is_full or not await self._add(lens, view, decision, budget, prepared):
                prepared.cut, reached = True, view.stored.offset
                break
        progress.caught_up_to(lag, reached)
        prepared.standing = progress.standing()

    def _waits(
        self, view: RecordView, owner: str, decision: Decision | None, held: bool, progress: Progress
    ) -> _Wait | None:
        """Whether it waits: behind its lagging owner, as the first that may not go now, or blocking its partition."""
        partition = view.stored.partition
        if progress.is_lagging(partition, owner):
            return _Wait.BEHIND
        if decision is not None and not held:
            return None
        return _Wait.FIRST if progress.lag(partition, owner, view.stored.offset) else _Wait.BLOCKED

    async def _decided(self, lens: Lens, chunk: Chunk) -> list[tuple[RecordView, Decision | None]]:
        views = [lens.views.view(lens.topic, stored) for stored in chunk.records]
        return list(zip(views, await self._decide(lens, views), strict=True))

    async def _decide(self, lens: Lens, views: Sequence[RecordView]) -> list[Decision | None]:
        label_sets = dict.fromkeys(view.label_set for view in views)
        label_sets.pop(None, None)
        questions = [lens.question(each) for each in label_sets if each is not None]
        try:
            answers = await lens.decider.decide(questions)
        except NoDecision:
            answers = [None] * len(questions)
        decided: dict[LabelSet | None, Decision | None] = dict(zip(label_sets, answers, strict=True))
        decided[None] = None
        return [decided[view.label_set] for view in views]

    async def _add(
        self, lens: Lens, view: RecordView, decision: Decision | None, budget: Budget, prepared: Prepared
    ) -> bool:
        """Release or skip one record; False if it would go out but the budget is used up."""
        added, label_set = self._add_now(lens, view, decision, budget, prepared), view.label_set
        if added is not None or decision is None or label_set is None:
            return bool(added)
        verdict = lens.verdict(label_set, decision)
        try:
            treated = lens.treated(label_set, verdict)
            await lens.discloser.encode(lens.views, view, treated, lens.subject)
        except Unredactable:
            prepared.account.withhold(view.stored, UNREDACTABLE, verdict.ruling)
            return True
        return bool(self._add_now(lens, view, decision, budget, prepared))

    def _add_now(
        self, lens: Lens, view: RecordView, decision: Decision | None, budget: Budget, prepared: Prepared
    ) -> bool | None:
        """As `_add`, or None where that takes long or it is the turn of others."""
        if view.notice is not None:
            return _tell(lens, view, view.notice, budget, prepared)
        account, label_set = prepared.account, view.label_set
        if decision is None or label_set is None:
            account.withhold(view.stored, UNREGISTERED, None)
            return True
        verdict = lens.verdict(label_set, decision)
        is_timed = view.expires_ms is not None or decision.valid_until is not None
        now_ms = self._clock.now_ms() if is_timed else 0
        outcome = why_withheld(view, decision, prepared.order.judge, now_ms)
        if outcome is not None:
            account.withhold(view.stored, outcome, verdict.ruling)
            return True
        if not budget.is_open:
            return False
        try:
            treated = verdict.treated or lens.treated(label_set, verdict)
            encoded = lens.discloser.encode_now(lens.views, view, treated, lens.subject)
        except Unredactable:
            account.withhold(view.stored, UNREDACTABLE, verdict.ruling)
            return True
        if encoded is None:
            return None
        budget.take(len(encoded.entry))
        prepared.add(encoded, decision.valid_until)
        account.hand_out(view.stored, verdict.outcome, verdict.ruling, encoded.content)
        return True


def is_held(lens: Lens, owner: str, prepared: Prepared, now_ms: int) -> bool:
    """Whether the owner has suspended these receivers, or the topic, for its own records: then they wait."""
    judge, agency = prepared.order.judge, lens.subject.agency
    return judge.owner_waits(owner, lens.topic, agency, now_ms, prepared.apart) is not None


def _tell(lens: Lens, view: RecordView, notice: Notice, budget: Budget, prepared: Prepared) -> bool:
    """Hand out the notice of a withdrawal, if the agency was handed the record; False if the budget is used up."""
    if lens.subject.agency not in notice.agencies:
        prepared.account.withhold(view.stored, "withdrawal_of_others", None)
        return True
    if not budget.is_open:
        return False
    budget.take(len(notice.encoded.entry))
    prepared.add(notice.encoded, None)
    ruling = notice.ruling(prepared.order.regime.rules)
    prepared.account.hand_out(view.stored, EFFECT, ruling, notice.encoded.content)
    return True


def why_withheld(view: RecordView, decision: Decision | None, judge: Judge, now_ms: int) -> str | None:
    """Why the record is withheld, or None if it goes out; what applies after the memo only ever restricts."""
    if decision is None:
        return UNREGISTERED
    if judge.withdraws_anything and judge.is_withdrawn(view.identity):
        return "withdrawn"
    if decision.effect is Effect.WITHHOLD:
        return ENGINE_FAULT if ENGINE_FAULT in decision.reasons else "withhold"
    if view.expires_ms is not None and view.expires_ms <= now_ms:
        return "expired"
    if decision.not_before is not None and view.stored.recorded_ms < _ms(decision.not_before):
        return "not_before"
    if decision.valid_until is not None and not decision.holds_at(datetime.fromtimestamp(now_ms / 1000, UTC)):
        return "lapsed"
    return None


def _ms(instant: datetime) -> int:
    return int(instant.astimezone(UTC).timestamp() * 1000)
