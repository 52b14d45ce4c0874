"""Decides combinations under one revision, and tells what each comes to for those who would receive the records."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime

from broker.core.decide.question import canary
from broker.core.questions import UNREVIEWED, deliver_question, markings_of
from broker.core.redact.fieldmap import FieldMap, FieldNode
from broker.core.redact.paths import parse_path
from broker.core.simulate.model import Combination, Outcome, Side, SimulationFailed
from broker.errors import NoDecision
from broker.model.decision import REMOVE, Decision, Effect, Treatment, strictest
from broker.model.principal import SubjectClass
from broker.model.registry import RecordType

BATCH = 200
SUBJECT_ID = "simulated"
"""The subject id under which a class is asked whether it may subscribe, which is nobody whom rules name."""

_WITHHELD = Outcome(Effect.WITHHOLD)
_NO_DECISION = Outcome(None)

Asked = Callable[[int], None]
"""Called with how many more combinations are decided."""


class Outcomes:
    """The outcomes under one side, at one moment."""

    def __init__(self, side: Side, now: datetime) -> None:
        self._side = side
        self._now = now
        moment = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        self._time = {"time": moment} if side.revision.time_dependent else {}
        self._types: dict[str, _Type] = {}
        self._may_subscribe: dict[tuple[SubjectClass, str], bool | None] = {}

    async def of(self, combinations: Sequence[Combination], asked: Asked) -> dict[Combination, Outcome]:
        """What each comes to. Raises SimulationFailed if the engine is lost."""
        found: dict[Combination, Outcome] = {}
        for first in range(0, len(combinations), BATCH):
            batch = combinations[first : first + BATCH]
            placed = [each for each in batch if self._is_placed(each)]
            found |= dict.fromkeys(batch, _WITHHELD)
            await self._ask_subscribe(placed)
            permitted = [each for each in placed if self._may(each)]
            decisions = await self._decide([self._item(each) for each in permitted])
            found |= {
                each: self._outcome(each, decision)
                for each, decision in zip(permitted, decisions, strict=True)
            }
            found |= {each: _NO_DECISION for each in placed if self._may(each) is None}
            asked(len(batch))
        return found

    def _is_placed(self, combination: Combination) -> bool:
        """Whether anybody there could ask, and anything of that kind could be found, under this revision."""
        registry, record = self._side.registry, combination.record
        return (
            record.topic in registry.topics
            and record.type in registry.record_types
            and record.owner in registry.agencies
            and combination.subject.agency in registry.agencies
        )

    async def _ask_subscribe(self, combinations: Sequence[Combination]) -> None:
        """Who may not subscribe gets nothing, whatever would be decided of records."""
        pairs = {(each.subject, each.record.topic): None for each in combinations}
        new = [pair for pair in pairs if pair not in self._may_subscribe]
        items: list[dict[str, object]] = []
        for subject, topic in new:
            person = {**subject.as_input(), "id": SUBJECT_ID}
            items.append({"action": "subscribe", "subject": person, "topic": topic, **self._time})
        for pair, decision in zip(new, await self._decide(items), strict=True):
            holds = None if decision is None else decision.permitted and decision.holds_at(self._now)
            self._may_subscribe[pair] = holds

    def _may(self, combination: Combination) -> bool | None:
        return self._may_subscribe[combination.subject, combination.record.topic]

    def _item(self, combination: Combination) -> dict[str, object]:
        record = combination.record
        record_type = self._side.registry.record_types[record.type]
        question = deliver_question(
            combination.subject, record.topic, record_type, record.owner, record.labels
        )
        return {**question.item, **self._time}

    async def _decide(
        self, items: Sequence[dict[str, object]], *, again: bool = False
    ) -> list[Decision | None]:
        """In order; None where the revision gives no well-formed decision. What fails is halved until it is alone."""
        if not items:
            return []
        try:
            asked = [{**item, "id": str(number)} for number, item in enumerate(items)]
            decisions = await self._side.trial.decide(asked)
            return [decisions.get(str(number)) for number in range(len(items))]
        except NoDecision:
            await self._require_engine()
        middle = len(items) // 2
        if middle:
            return [*await self._decide(items[:middle]), *await self._decide(items[middle:])]
        return [None] if again else await self._decide(items, again=True)

    async def _require_engine(self) -> None:
        try:
            await self._side.trial.decide([canary(self._time.get("time"))])
        except NoDecision:
            what = f"the policy engine stopped answering under {self._side.revision.id}"
            raise SimulationFailed(f"{what}; start the simulation again, or make its rules cheaper") from None

    def _outcome(self, combination: Combination, decision: Decision | None) -> Outcome:
        if decision is None:
            return _NO_DECISION
        if decision.effect is Effect.WITHHOLD or not decision.holds_at(self._now):
            return _WITHHELD
        period = (decision.not_before, decision.valid_until)
        if decision.effect is Effect.NOTICE:
            return Outcome(Effect.NOTICE, {}, {}, decision.obligations, *period)
        kind = self._type(combination.record.type)
        return Outcome(
            Effect.RELEASE,
            {marking: decision.treatments.get(marking, REMOVE) for marking in kind.markings},
            kind.treated(decision.treatments),
            decision.obligations,
            *period,
        )

    def _type(self, name: str) -> _Type:
        known = self._types.get(name)
        if known is None:
            known = self._types[name] = _Type(self._side.registry.record_types[name])
        return known


class _Type:
    """A record type's markings, and by path those that count there."""

    def __init__(self, record_type: RecordType) -> None:
        self.markings = markings_of(record_type)
        root = FieldMap.compile(record_type.fields).root
        self._fields: dict[str, Collection[str]] = {
            path: _markings_at(root, path) for path in record_type.fields
        }
        self._fields |= {f"@{name}": markings for name, markings in record_type.attributes.items()}

    def treated(self, treatments: Mapping[str, Treatment]) -> dict[str, Treatment]:
        """What becomes of each path that is named, by the strictest of its markings; and of what no path names, under ""."""
        unnamed = treatments.get(UNREVIEWED, REMOVE)
        return {"": unnamed} | {
            path: strictest(treatments.get(marking, REMOVE) for marking in markings)
            for path, markings in self._fields.items()
        }


def _markings_at(root: FieldNode, path: str) -> Collection[str]:
    """The markings where a path of this map leads."""
    node: FieldNode | None = root
    for segment in parse_path(path):
        if node is not None:
            node = node.names.get(segment) if isinstance(segment, str) else node.elements
    return node.markings if node is not None else ()
