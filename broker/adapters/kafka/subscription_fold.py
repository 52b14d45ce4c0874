"""How the subscriptions' log becomes their state, in every instance the same.

Each record proposes a whole new state of one subscription and names the version that it expects. In log order a record
counts if it expects the present version, and is void otherwise: so of two that compete the first wins, everywhere.

Compaction keeps the newest record of each key, and must not let a void record hide the one that won. Therefore a key
names the subscription *and its proposer*, and a proposer sends the next record of a subscription only after it has read
its last one. Then the last record that counted is always kept: had its proposer written a void one after it, a third
record would have counted in between. Whoever reads the compacted log meets versions that skip ahead; a record that
expects a *later* version than the present one counts too. With a whole log that never happens, and with a compacted one
it leads to the same end, because before the last record that counted none can expect more than it does.

A deleted subscription stays as a mark with its epoch (about 200 bytes), so that an epoch is never given twice.
"""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from broker.model.subscription import Subscription, SubscriptionKey


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a subscription; `subscription` None once deleted. Version 0 is before the first."""

    number: int
    epoch: int
    subscription: Subscription | None
    holder: bytes = b""


ABSENT = Version(0, -1, None)


@dataclass(frozen=True, slots=True)
class Proposal:
    """A proposed next version; `proposer` and `serial` identify it."""

    proposer: str
    serial: int
    expects: int
    key: SubscriptionKey
    epoch: int
    subscription: Subscription | None

    def log_key(self) -> bytes:
        """The Kafka key: subscription and proposer, as JSON."""
        return orjson.dumps([self.key.agency, self.key.subject, self.key.name, self.proposer])

    def log_value(self) -> bytes:
        """The Kafka value: canonical JSON."""
        return orjson.dumps(
            {
                "serial": self.serial,
                "expects": self.expects,
                "epoch": self.epoch,
                "state": None if self.subscription is None else _state(self.subscription),
            },
            option=orjson.OPT_SORT_KEYS,
        )


def parse(key: bytes, value: bytes) -> Proposal:
    """A proposal from the log; raises ValueError if it is none."""
    try:
        agency, subject, name, proposer = (str(part) for part in orjson.loads(key))
        content = orjson.loads(value)
        serial, expects, epoch = (_whole(content[part]) for part in ("serial", "expects", "epoch"))
        whose, state = SubscriptionKey(agency, subject, name), content["state"]
        subscription = None if state is None else _subscription(whose, epoch, state)
        return Proposal(proposer, serial, expects, whose, epoch, subscription)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError("a record of the subscriptions' topic is not readable") from error


class SubscriptionFold:
    """The state after the records read so far."""

    def __init__(self) -> None:
        self._versions: dict[SubscriptionKey, Version] = {}

    def present(self, key: SubscriptionKey) -> Version:
        """The present version; ABSENT before the first."""
        return self._versions.get(key, ABSENT)

    def of(self, agency: str, subject: str) -> list[Subscription]:
        """A principal's subscriptions by name."""
        own = [
            v.subscription for k, v in self._versions.items() if (k.agency, k.subject) == (agency, subject)
        ]
        return sorted((found for found in own if found is not None), key=lambda found: found.key.name)

    def holder(self, log_key: bytes) -> bytes:
        """The Kafka key of the record that made the present version of the subscription that `log_key` is about."""
        return self.present(SubscriptionKey(*orjson.loads(log_key)[:3])).holder

    def apply(self, proposal: Proposal) -> bool:
        """Take the next record of the log; whether it counts."""
        if proposal.expects < self.present(proposal.key).number:
            return False
        self._versions[proposal.key] = Version(
            proposal.expects + 1, proposal.epoch, proposal.subscription, proposal.log_key()
        )
        return True


def _state(subscription: Subscription) -> dict[str, object]:
    return {
        "topic": subscription.topic,
        "incarnation": subscription.incarnation.hex(),
        "purpose": subscription.purpose,
        "positions": list(subscription.positions),
        "created_ms": subscription.created_ms,
        "updated_ms": subscription.updated_ms,
    }


def _subscription(key: SubscriptionKey, epoch: int, state: dict[str, object]) -> Subscription:
    positions = state["positions"]
    if not isinstance(positions, list):
        raise TypeError("positions must be a list")
    return Subscription(
        key=key,
        topic=str(state["topic"]),
        incarnation=bytes.fromhex(str(state["incarnation"])),
        purpose=str(state["purpose"]),
        positions=tuple(_whole(position) for position in positions),
        epoch=epoch,
        created_ms=_whole(state["created_ms"]),
        updated_ms=_whole(state["updated_ms"]),
    )


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError("a whole number was expected")
    return value
