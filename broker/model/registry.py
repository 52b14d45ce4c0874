"""What a revision's data registers: agencies, topics, record types, agreements and the vocabulary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Issuer:
    """A token issuer of one agency; exactly one of `jwks_file` (inside the rulebook) and `jwks_url` (https)."""

    issuer: str
    jwks_file: str | None = None
    jwks_url: str | None = None


@dataclass(frozen=True, slots=True)
class Agency:
    """An organisation on the exchange and the most that its tokens may assert."""

    name: str
    title: str
    contact: str
    issuers: tuple[Issuer, ...]
    roles: frozenset[str]
    purposes: frozenset[str]
    attributes: Mapping[str, str]
    max_token_lifetime_s: int


@dataclass(frozen=True, slots=True)
class Topic:
    """A named stream of records; `retention_s` None keeps records for good."""

    name: str
    description: str
    steward: str
    accepts: frozenset[str]
    partitions: int
    retention_s: int | None


@dataclass(frozen=True, slots=True)
class RecordType:
    """A registered CloudEvents `type`: who publishes it and how its fields and attributes are marked."""

    name: str
    owner: str
    description: str
    content_type: str
    publishers: frozenset[str]
    fields: Mapping[str, tuple[str, ...]]
    attributes: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Agreement:
    """What an owner grants a consumer, as far as the broker itself needs it (the catalog, dry runs, explanations).

    until: when it ends, as YYYY-MM-DDTHH:MM:SSZ; None for never.
    """

    id: str
    owner: str
    consumer: str
    topics: frozenset[str]
    purposes: tuple[str, ...]
    highest: str
    grants: str
    until: str | None = None


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The words that labels, tokens and markings may use; `classifications` in rising order."""

    classifications: tuple[str, ...]
    purposes: frozenset[str]
    regulations: frozenset[str]
    categories: frozenset[str]
    roles: frozenset[str]
    attributes: Mapping[str, str]
    markings: frozenset[str]


@dataclass(frozen=True, slots=True)
class Administration:
    """What changing anything takes: persons who approve beside the author, of the exchange and of each agency concerned.

    ratify_hours: within these a second exchange administrator ratifies a suspension, or it lapses. public_reasons: those
    that whoever was refused may be told when it asks why.
    """

    exchange_approvals: int
    agency_approvals: int
    ratify_hours: int
    public_reasons: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Registry:
    """All that one revision registers.

    administrators: agency -> its administrators' subject ids. administration: None: nothing can be approved.
    """

    agencies: Mapping[str, Agency]
    topics: Mapping[str, Topic]
    record_types: Mapping[str, RecordType]
    agreements: tuple[Agreement, ...]
    vocabulary: Vocabulary
    administrators: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    administration: Administration | None = None
    _granted_by: dict[str, list[Agreement]] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )
    _granted_to: dict[str, list[Agreement]] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )

    def __post_init__(self) -> None:
        for agreement in self.agreements:
            self._granted_by.setdefault(agreement.owner, []).append(agreement)
            self._granted_to.setdefault(agreement.consumer, []).append(agreement)

    def granted_by(self, owner: str) -> Sequence[Agreement]:
        """The agreements of an owner, in order; there may be a million of all."""
        return self._granted_by.get(owner, ())

    def granted_to(self, consumer: str) -> Sequence[Agreement]:
        """The agreements that name a consumer, in order."""
        return self._granted_to.get(consumer, ())
