"""What whoever was refused may be told: its own part of the reasons, and whom to ask. The same for what is hidden or absent.

Records that are withheld are withheld silently. So nothing is evaluated for a question about records: the answer could not
tell one that exists from one that does not, nor an agreement from none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from broker.model.ledger import JsonValue
from broker.model.registry import Registry

OPERATOR = "exchange"
"""The agency that runs the exchange: whom to ask where nothing else may be told."""


@dataclass(frozen=True, slots=True)
class PublicAnswer:
    """reasons: those that the rulebook marks public, sorted. ask: the contact of whom to ask."""

    reasons: tuple[str, ...]
    ask: str


def public_answer(
    question: Mapping[str, JsonValue], reasons: Iterable[str], registry: Registry, *, may_know: bool
) -> PublicAnswer:
    """For somebody of the agency that the question is about.

    reasons: of the decision on its own call; of a question about records none are looked at. may_know: whether the topic is
    one that it may know of.
    """
    administration = registry.administration
    public = frozenset[str]() if administration is None else administration.public_reasons
    told = () if question.get("action") == "deliver" else sorted(public.intersection(reasons))
    topic = registry.topics.get(str(question.get("topic"))) if may_know else None
    asked = registry.agencies.get(OPERATOR if topic is None else topic.steward)
    return PublicAnswer(tuple(told), "" if asked is None else asked.contact)
