"""The one function that turns a decision into what a consumer receives of a record.

Encoded once for each distinct treatment: results are kept with the record's view by treatment, so groups that are treated
alike share the bytes. Pseudonyms differ by receiver and purpose, which are then part of the treatment.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import count

from google.protobuf.message import DecodeError

from broker.core.deliver.view import VISIBLE, LabelSet, RecordView, RecordViews
from broker.core.deliver.wire import (
    Encoded,
    disclosure,
    encoded_text,
    event_attribute,
    notice_delivery,
    record_delivery,
    reduced_event,
)
from broker.core.questions import UNREVIEWED, markings_of
from broker.core.record.admission import JSON_CONTENT
from broker.core.record.envelope import text_attribute
from broker.core.record.examination import LARGE_BYTES, TURN_BYTES
from broker.core.record.outline import Outline, entries_by_name, order_of, with_attributes
from broker.core.redact.apply import Pseudonymise, redact, redact_members
from broker.core.redact.fieldmap import FieldMap
from broker.core.redact.plan import Plan, Unredactable, compile_plan
from broker.core.redact.pseudonym import pseudonymiser
from broker.model.decision import KEEP, Decision, Effect, Treatment, TreatmentKind
from broker.model.principal import SubjectClass
from broker.model.registry import RecordType, Registry
from broker.ports.keys import Keys
from protos.entente.v1 import exchange_pb2
from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent

_NUMBERS = count()

PLANS = 10_000
"""Compiled plans that are kept."""

_THREADS = 2

OUTPUT_BYTES = 16 << 20
"""The most that a redacted document may take: fillers and pseudonyms can be longer than what they stand for."""


@dataclass(frozen=True, slots=True, eq=False)
class Treated:
    """A decision ready to be applied to records of one label set for one class.

    number: the same for all that give the same bytes of a record, and never for others. disclosed: where nothing is masked.
    """

    number: int
    effect: Effect
    whole: bool
    content: Plan | None
    attributes: Plan | None
    obligations: tuple[str, ...]
    disclosed: bytes
    pseudonymise: Pseudonymise


class Discloser:
    """Applies decisions to records for one revision."""

    def __init__(self, registry: Registry, keys: Keys) -> None:
        self._registry = registry
        self._keys = keys
        self._field_maps: dict[str, FieldMap] = {}
        self._attribute_maps: dict[str, FieldMap] = {}
        self._plans: dict[tuple[object, ...], Plan] = {}
        self._numbers: dict[tuple[object, ...], int] = {}
        self._since_turn_bytes = 0
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="redact")

    def treat(self, decision: Decision, label_set: LabelSet, subject: SubjectClass) -> Treated:
        """Compile the decision for records of this label set."""
        record_type = label_set.record_type
        plan = self._content_plan(decision, record_type)
        attributes = (
            self._plan("attributes", record_type, self._attribute_map(record_type), decision)
            if record_type.attributes
            else None
        )
        whole = subject.agency == label_set.owner and self._keeps_all(decision, record_type)
        treatments = tuple(
            sorted((m, t.kind, t.keep_first, t.keep_last) for m, t in decision.treatments.items())
        )
        linked = any(t.kind is TreatmentKind.PSEUDONYM for t in decision.treatments.values())
        receiver = (subject.agency, subject.purpose) if linked or decision.effect is Effect.NOTICE else ()
        key_id, key = self._keys.current("pseudonym")
        alike = (
            record_type.name,
            decision.effect,
            whole,
            treatments,
            decision.obligations,
            receiver,
            key_id,
        )
        return Treated(
            number=self._number(alike),
            effect=decision.effect,
            whole=whole,
            content=plan,
            attributes=attributes,
            obligations=decision.obligations,
            disclosed=_released((), decision.obligations),
            pseudonymise=pseudonymiser(
                key, owner=label_set.owner, receiver=subject.agency, purpose=subject.purpose
            ),
        )

    def encode_now(
        self, views: RecordViews, view: RecordView, treated: Treated, subject: SubjectClass
    ) -> Encoded | None:
        """As `encode`, or None where that takes long or it is the turn of others."""
        encoded = view.encoded.get(treated.number)
        if encoded is None and self._since_turn_bytes < TURN_BYTES and not _takes_long(view, treated):
            encoded = self.encode_once(view, treated, subject)
            self._since_turn_bytes += len(view.stored.body)
            views.keep(view, treated.number, encoded)
        return encoded

    async def encode(
        self, views: RecordViews, view: RecordView, treated: Treated, subject: SubjectClass
    ) -> Encoded:
        """What goes out of the record; raises Unredactable, and then the record is withheld whole.

        views: where the view is from, and the result is kept. What takes long is done beside the event loop, as a hostile
        publisher's documents would hold up everybody.
        """
        encoded = view.encoded.get(treated.number)
        if encoded is None:
            encoded = await self.encode_in_turn(view, treated, subject)
            views.keep(view, treated.number, encoded)
        return encoded

    async def encode_in_turn(self, view: RecordView, treated: Treated, subject: SubjectClass) -> Encoded:
        """As `encode`, past what is kept."""
        if _takes_long(view, treated):
            work = partial(self.encode_once, view, treated, subject)
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        encoded = self.encode_once(view, treated, subject)
        self._since_turn_bytes += len(view.stored.body)
        if self._since_turn_bytes >= TURN_BYTES:
            self._since_turn_bytes = 0
            await asyncio.sleep(0)
        return encoded

    def encode_once(self, view: RecordView, treated: Treated, subject: SubjectClass) -> Encoded:
        """As `encode_in_turn`, at once and in this thread."""
        if treated.effect is Effect.NOTICE:
            return self._notice(view, treated, subject)
        if treated.whole:
            _require_event(view.stored.body)
            return record_delivery(view.stored.body, treated.disclosed)
        if treated.content is None:
            raise Unredactable
        outline = view.outline
        redacted = redact(_payload(outline, treated.content), treated.content, treated.pseudonymise)
        if len(redacted.data) > OUTPUT_BYTES:
            raise Unredactable
        attributes, masked = _attributes(view, outline, treated)
        event = reduced_event(outline, attributes, redacted.data)
        if not masked and not redacted.masked:
            return record_delivery(event, treated.disclosed)
        return record_delivery(event, _released((*redacted.masked, *masked), treated.obligations))

    def _notice(self, view: RecordView, treated: Treated, subject: SubjectClass) -> Encoded:
        owner = self._registry.agencies[view.label_set.owner] if view.label_set else None
        if owner is None:
            raise Unredactable
        notice = exchange_pb2.Notice(
            id=self._notice_id(view, subject),
            type=view.outline.type.decode(),
            owner=owner.name,
            contact=owner.contact,
        )
        return notice_delivery(notice, disclosure(exchange_pb2.EFFECT_NOTICE, (), treated.obligations))

    def _notice_id(self, view: RecordView, subject: SubjectClass) -> str:
        """Opaque: keyed by receiver, so that two receivers cannot tell whether they were noticed of the same record."""
        _, key = self._keys.current("pseudonym")
        place = b"\0".join((b"notice", subject.agency.encode(), view.outline.source, view.outline.id))
        return hmac.new(key, place, hashlib.sha256).hexdigest()[:32]

    def _number(self, alike: tuple[object, ...]) -> int:
        number = self._numbers.get(alike)
        if number is None:
            if len(self._numbers) >= PLANS:
                self._numbers.clear()
            number = self._numbers[alike] = next(_NUMBERS)
        return number

    def _content_plan(self, decision: Decision, record_type: RecordType) -> Plan | None:
        """None where the content is all or nothing and the decision does not keep all of it."""
        if record_type.fields and JSON_CONTENT.fullmatch(record_type.content_type):
            return self._plan("content", record_type, self._field_map(record_type), decision)
        return (
            compile_plan(FieldMap.compile({}), {UNREVIEWED: KEEP})
            if self._keeps_all(decision, record_type)
            else None
        )

    def _plan(self, part: str, record_type: RecordType, field_map: FieldMap, decision: Decision) -> Plan:
        """Compiling costs hundreds of microseconds, and few treatments serve many label sets."""
        key = (part, record_type.name, frozenset(decision.treatments.items()))
        if key not in self._plans:
            if len(self._plans) >= PLANS:
                self._plans.clear()
            self._plans[key] = compile_plan(field_map, decision.treatments)
        return self._plans[key]

    def _keeps_all(self, decision: Decision, record_type: RecordType) -> bool:
        return all(_is_kept(decision.treatments.get(marking)) for marking in markings_of(record_type))

    def _field_map(self, record_type: RecordType) -> FieldMap:
        if record_type.name not in self._field_maps:
            self._field_maps[record_type.name] = FieldMap.compile(record_type.fields)
        return self._field_maps[record_type.name]

    def _attribute_map(self, record_type: RecordType) -> FieldMap:
        if record_type.name not in self._attribute_maps:
            fields = {f"$.{name}": markings for name, markings in record_type.attributes.items()}
            self._attribute_maps[record_type.name] = FieldMap.compile(fields)
        return self._attribute_maps[record_type.name]


def _takes_long(view: RecordView, treated: Treated) -> bool:
    return len(view.stored.body) >= LARGE_BYTES and not treated.whole


def _payload(outline: Outline, plan: Plan) -> bytes:
    """The record's data, of which what is called text is text; raises Unredactable."""
    text = outline.text_data
    if text and plan.is_identity:  # else it is parsed
        try:
            text.decode()
        except UnicodeDecodeError:
            raise Unredactable from None
    return text or outline.binary_data


def _attributes(view: RecordView, outline: Outline, treated: Treated) -> tuple[bytes, tuple[str, ...]]:
    """What goes out of the attributes, as an event holds them, and the markings of what is visibly replaced in them."""
    if not view.is_marked or treated.attributes is None or view.label_set is None:
        return view.visible, ()
    present = entries_by_name(outline)
    named = view.label_set.record_type.attributes
    event = with_attributes(entry for name in named if (entry := present.get(name.encode())) is not None)
    texts = {name: text for name in named if (text := text_attribute(event, name)) is not None}
    kept, masked = redact_members(texts, treated.attributes, treated.pseudonymise)
    visible = {name: entry for name, key in VISIBLE if (entry := present.get(key)) is not None}
    visible.update((name, encoded_text(name, str(text))) for name, text in kept.items())
    return b"".join(event_attribute(visible[name]) for name in sorted(visible, key=order_of)), masked


def _require_event(body: bytes) -> None:
    """Raises Unredactable for what a receiver could not parse."""
    try:
        CloudEvent.FromString(body)
    except DecodeError:
        raise Unredactable from None


def _is_kept(treatment: Treatment | None) -> bool:
    return treatment is not None and treatment.kind is TreatmentKind.KEEP


def _released(masked: tuple[str, ...], obligations: tuple[str, ...]) -> bytes:
    return disclosure(exchange_pb2.EFFECT_RELEASE, tuple(sorted(set(masked))), obligations)
