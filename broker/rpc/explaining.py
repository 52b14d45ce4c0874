"""Rulebook.Explain."""

from __future__ import annotations

import orjson

from broker.core.explain.asked import DecisionAt
from broker.core.explain.consumer import PublicAnswer
from broker.core.explain.desk import Answer, ExplainDesk
from broker.core.explain.model import Explanation, Place
from broker.core.explain.question import MadeUp, RecordKind, RecordNamed
from broker.errors import EntenteError, Reason
from broker.model.labels import Labels
from broker.model.principal import SubjectClass
from broker.rpc.call import Call
from protos.entente.v1 import rulebook_pb2 as pb


class ExplainServicer:
    """Translates between protobuf and the desk."""

    def __init__(self, desk: ExplainDesk) -> None:
        self._desk = desk

    async def explain(self, call: Call) -> None:
        """Rulebook.Explain."""
        request = pb.ExplainRequest.FromString(call.request)
        match request.WhichOneof("about"):
            case "reference":
                answers = await self._desk.reference(call.caller, request.reference)
            case "decision":
                place = request.decision
                at = DecisionAt(place.instance, place.index, place.number)
                answers = await self._desk.decision(call.caller, at)
            case "question":
                answers = await self._desk.made_up(call.caller, made_up(request.question))
            case _:
                raise EntenteError(Reason.REQUEST_INVALID, "it asks about nothing")
        call.response = pb.ExplainResponse(explanations=map(shown, answers)).SerializeToString()


def made_up(question: pb.ExplainQuestion) -> MadeUp:
    """A question as somebody makes it up."""
    who = SubjectClass(
        question.agency,
        tuple(sorted(set(question.roles))),
        tuple(sorted(question.attributes.items())),
        question.purpose,
    )
    return MadeUp(who, question.topic, _record(question), question.revision, question.subject or "somebody")


def _record(question: pb.ExplainQuestion) -> RecordNamed | RecordKind | None:
    match question.WhichOneof("record"):
        case "named":
            return RecordNamed(question.named.source, question.named.id)
        case "kind":
            kind = question.kind
            labels = Labels(
                kind.classification,
                tuple(sorted(set(kind.regulations))),
                kind.category,
                tuple(sorted(set(kind.purposes))),
                tuple(sorted(set(kind.releasable_to))),
            )
            return RecordKind(kind.owner, kind.type, labels)
    return None


def shown(answer: Answer) -> pb.Explanation:
    """An answer as it is told."""
    match answer:
        case PublicAnswer():
            return pb.Explanation(public=pb.PublicExplanation(reasons=answer.reasons, ask=answer.ask))
        case Explanation():
            return pb.Explanation(full=_full(answer))


def _full(found: Explanation) -> pb.FullExplanation:
    return pb.FullExplanation(
        revision=found.revision,
        question=_json(found.question),
        output="" if found.output is None else _json(found.output),
        rules=map(_place, found.rules),
        data=map(_place, found.data),
        agreements=[
            pb.NearAgreement(place=_place(each.place), unmet=each.unmet or "") for each in found.agreements
        ],
    )


def _place(place: Place) -> pb.RulebookPlace:
    return pb.RulebookPlace(file=place.file, line=place.line, what=place.what)


def _json(value: object) -> str:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
