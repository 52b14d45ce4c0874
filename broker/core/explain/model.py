"""An explanation."""

from __future__ import annotations

from dataclasses import dataclass

from broker.model.ledger import JsonValue


@dataclass(frozen=True, slots=True)
class Place:
    """A line of a rulebook's file, and what stands there: a rule with its package, or a member of the data."""

    file: str
    line: int
    what: str


@dataclass(frozen=True, slots=True)
class NearAgreement:
    """An agreement of the owner, and the first of its conditions that was not met; None if it applied.

    met: how many conditions were met before that one.
    """

    place: Place
    met: int
    unmet: str | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a revision answers one question as it does.

    question: the input item without its id. rules, data: what took part, as far as whoever asks may see
    it. agreements: the nearest first; where something applied, only what applied.
    """

    revision: str
    question: dict[str, JsonValue]
    output: dict[str, JsonValue] | None
    rules: tuple[Place, ...]
    data: tuple[Place, ...]
    agreements: tuple[NearAgreement, ...]
