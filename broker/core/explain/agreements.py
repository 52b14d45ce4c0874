"""Which agreement came nearest, and what it lacked: conditions in the order in which people ask for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from broker.core.explain.model import NearAgreement, Place
from broker.model.registry import Agreement, Vocabulary

NEAREST = 5


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an agreement would have to cover. classification: None where there is no record.

    time: when, as YYYY-MM-DDTHH:MM:SSZ, in which an earlier moment is a smaller text.
    """

    consumer: str
    topic: str
    purpose: str
    classification: str | None
    time: str


def nearest(
    agreements: Sequence[Agreement],
    wanted: Wanted,
    words: Vocabulary,
    placed: Callable[[Agreement], Place],
) -> tuple[NearAgreement, ...]:
    """Those of one owner that applied, or, if none did, the nearest few with the first condition that each lacks."""
    judged = [(agreement, *_judged(agreement, wanted, words)) for agreement in agreements]
    applied = [each for each in judged if each[2] is None]
    near = applied or sorted(judged, key=lambda each: (-each[1], each[0].id))
    return tuple(NearAgreement(placed(agreement), met, unmet) for agreement, met, unmet in near[:NEAREST])


def _judged(agreement: Agreement, wanted: Wanted, words: Vocabulary) -> tuple[int, str | None]:
    """How many conditions are met before the first that is not, and that one."""
    met = 0
    for is_met, unmet in _conditions(agreement, wanted, words):
        if not is_met:
            return met, unmet
        met += 1
    return met, None


def _conditions(agreement: Agreement, wanted: Wanted, words: Vocabulary) -> Iterator[tuple[bool, str]]:
    yield agreement.consumer == wanted.consumer, f"it is with {agreement.consumer}, not {wanted.consumer}"
    topics = ", ".join(sorted(agreement.topics))
    yield wanted.topic in agreement.topics, f"its topics are {topics or 'none'}"
    purposes = ", ".join(sorted(agreement.purposes))
    yield wanted.purpose in agreement.purposes, f"its purposes are {purposes or 'none'}"
    if wanted.classification is not None:
        ranks: Mapping[str, int] = {name: rank for rank, name in enumerate(words.classifications)}
        highest, asked = ranks.get(agreement.highest), ranks.get(wanted.classification)
        covers = highest is not None and asked is not None and asked <= highest
        yield covers, f"it goes up to {agreement.highest}, and the record is {wanted.classification}"
    yield agreement.until is None or wanted.time < agreement.until, f"it ended at {agreement.until}"
