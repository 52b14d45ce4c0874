"""Questions that a rulebook's cases and agreements raise: the set on which the time of its decisions is measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from broker.core.questions import deliver_question
from broker.core.rulebook.cases.model import Cases
from broker.core.rulebook.spread import spread
from broker.model.labels import Labels
from broker.model.principal import SubjectClass
from broker.model.registry import Agreement, Registry

_AGREEMENTS = 100
"""Of so many, evenly taken, one record each is asked for: that reaches the modules of both sides."""


@dataclass(frozen=True, slots=True)
class Question:
    """One item, and where it comes from: a case, or an agreement."""

    file: str
    line: int | None
    title: str
    item: dict[str, object]


def questions_of_agreements(registry: Registry, cases: Cases) -> Iterator[Question]:
    """What each agreement is for: a record of the owner, at its highest, for somebody of the consumer."""
    for index in spread(len(registry.agreements), _AGREEMENTS):
        agreement = registry.agreements[index]
        question = _granted(agreement, registry, cases.times[0] if cases.times else None)
        if question is not None:
            yield question


def _granted(agreement: Agreement, registry: Registry, time: str | None) -> Question | None:
    consumer = registry.agencies[agreement.consumer]
    attributes = tuple(sorted(consumer.attributes.items()))
    labels = Labels(agreement.highest, releasableto=(consumer.name,))
    for topic in sorted(agreement.topics):
        for name in sorted(registry.topics[topic].accepts):
            record_type = registry.record_types[name]
            if agreement.owner in record_type.publishers and agreement.purposes:
                subject = SubjectClass(
                    consumer.name, tuple(sorted(consumer.roles)), attributes, agreement.purposes[0]
                )
                asked = deliver_question(subject, topic, record_type, agreement.owner, labels)
                item = {**asked.item, "id": agreement.id} | ({} if time is None else {"time": time})
                file = f"data/agreements/{agreement.owner}/data.yaml"
                return Question(file, None, agreement.id, item)
    return None
