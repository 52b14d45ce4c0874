"""A regime: one revision of the rulebook at work, with everything that what becomes of a record or call depends on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from broker.core.access import Access
from broker.core.catalog import Catalog
from broker.core.decide import Decider
from broker.core.deliver.disclose import Discloser
from broker.core.deliver.view import RecordViews
from broker.core.record.examination import Examiner
from broker.model.record import LogTopic
from broker.model.registry import Registry
from broker.model.rulebook import Rules
from broker.ports.identity import Identity
from broker.ports.policy_engine import PolicyEngine


@dataclass(frozen=True, slots=True, eq=False)
class Regime:
    """Parts of one revision; none of them is used beside those of another. Equal only to itself.

    topics: what the log calls the registry's topics. engine: what `decider` asks.
    """

    rules: Rules
    time_dependent: bool
    registry: Registry
    topics: Mapping[str, LogTopic]
    engine: PolicyEngine
    decider: Decider
    access: Access
    catalog: Catalog
    examiner: Examiner
    discloser: Discloser
    views: RecordViews
    identity: Identity
