"""Regimes without an engine: what is in force, with the decisions and the registry that a test gives it."""

from __future__ import annotations

from typing import Any, cast

from broker.core.access import Access
from broker.core.catalog import Catalog
from broker.core.decide import Decider
from broker.core.deliver.disclose import Discloser
from broker.core.deliver.view import RecordViews
from broker.core.in_force import InForce, Order
from broker.core.record.admission import RecordLimits
from broker.core.record.examination import Examiner
from broker.core.regime import Regime
from broker.errors import EntenteError, Reason
from broker.model.overlay import Overlays
from broker.model.principal import Principal
from broker.model.record import LogTopic
from broker.model.registry import Agency, RecordType, Registry, Topic, Vocabulary
from broker.model.rulebook import Rules
from broker.ports.clock import Clock
from broker.ports.identity import Identity
from broker.ports.keys import Keys
from tests.fakes.clock import TurnedClock

TOPIC = "t"
TYPE = "test.v1"
RULES = Rules("sha256:0", "scripted 1")


class FixedKeys:
    """One key for every use."""

    def current(self, use: str) -> tuple[int, bytes]:
        return 0, b"k" * 32

    def by_id(self, use: str, key_id: int) -> bytes | None:
        return b"k" * 32 if key_id == 0 else None


class AnyIdentity:
    """Knows every principal but those whose subject is in `unknown`."""

    def __init__(self) -> None:
        self.unknown: set[str] = set()

    async def authenticate(self, token: str, certificate_der: bytes | None) -> Principal:
        """See Identity."""
        raise NotImplementedError

    async def confirm(self, principal: Principal) -> None:
        """See Identity."""
        if principal.subject in self.unknown:
            raise EntenteError(Reason.CLAIM_NOT_PERMITTED, "role 'reader'")


def regime(
    decider: object = None,
    known: Registry | None = None,
    *,
    rules: Rules = RULES,
    engine: object = None,
    topics: dict[str, LogTopic] | None = None,
    identity: object = None,
    keys: Keys | None = None,
    clock: Clock | None = None,
) -> Regime:
    """One revision; `decider` is asked if there are questions, topic "t" has one partition unless told."""
    known = known or registry()
    asked, clock, keys = cast(Decider, decider), clock or TurnedClock(), keys or FixedKeys()
    anybody = cast(Identity, identity or AnyIdentity())
    access = Access(known, asked, clock, anybody)
    return Regime(
        rules=rules,
        time_dependent=False,
        registry=known,
        topics=topics if topics is not None else {TOPIC: LogTopic(TOPIC, 1, b"i" * 16)},
        engine=cast(Any, engine),
        decider=asked,
        access=access,
        catalog=Catalog(known, access),
        examiner=Examiner(known, RecordLimits()),
        discloser=Discloser(known, keys),
        views=RecordViews(known),
        identity=anybody,
    )


def in_force(decider: object = None, known: Registry | None = None, **parts: Any) -> InForce[Regime]:
    """Such a regime in force, with nothing suspended or withdrawn."""
    return InForce(Order(regime(decider, known, **parts), Overlays()))


def registry() -> Registry:
    """Agencies alpha, beta and gamma, which publish one type on one topic."""
    names = frozenset({"alpha", "beta", "gamma"})
    agencies = {
        name: Agency(name, name, f"desk@{name}.example", (), frozenset(), frozenset(), {}, 600)
        for name in names
    }
    record_type = RecordType(TYPE, "alpha", "A test", "application/json", names, {}, {})
    topic = Topic(TOPIC, "A test", "alpha", frozenset({TYPE}), 1, None)
    words = Vocabulary(
        ("green", "red"),
        frozenset(),
        frozenset(),
        frozenset({"odd"}),
        frozenset(),
        {},
        frozenset({"unreviewed"}),
    )
    return Registry(agencies, {TOPIC: topic}, {TYPE: record_type}, (), words)
