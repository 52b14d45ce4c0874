"""The notice of a withdrawal: a record that the exchange makes, in the log of the topic on which the record was handed out.

So it has a position, is accounted for and acknowledged like any record, and reaches streams that open later. Its source
names no agency, so nobody can publish one; a version of the exchange that does not know it withholds it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from broker.core.decide import Ruling
from broker.core.deliver.wire import Encoded, withdrawal_delivery
from broker.core.ledger.canonical import canonical
from broker.core.record.fingerprint import content_digest, identity
from broker.model.ledger import JsonValue
from broker.model.overlay import Withdrawal
from broker.model.partition import partition_for
from broker.model.record import NewRecord
from broker.model.rulebook import Rules
from protos.entente.v1 import exchange_pb2
from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent

SOURCE = "entente:withdrawals"
TYPE = "entente.withdrawal.v1"
EFFECT = "withdrawal"
"""What the ledger calls it when a notice is handed out."""


@dataclass(frozen=True, slots=True, eq=False)
class Notice:
    """As it is read back. agencies: those that were handed the record. encoded: what each of their streams gets."""

    source: str
    id: str
    owner: str
    agencies: frozenset[str]
    encoded: Encoded

    def ruling(self, rules: Rules) -> Ruling:
        """What stands in the place of a decision in the entry by which it is handed out: nothing was decided."""
        value: dict[str, JsonValue] = {
            "withdrawal": {"source": self.source, "id": self.id, "owner": self.owner},
            "output": {"effect": EFFECT},
        }
        text = canonical(value)
        return Ruling(identity(self.source, self.id), value, len(text), rules)


def notice_record(
    withdrawal: Withdrawal, record_type: str, contact: str, agencies: Sequence[str], now_ms: int, key: bytes
) -> NewRecord:
    """Ready to be appended. key: chooses the partition."""
    content = {
        "source": withdrawal.source,
        "id": withdrawal.id,
        "type": record_type,
        "owner": withdrawal.owner,
        "contact": contact,
        "reason": withdrawal.reason if withdrawal.tell_reason else "",
        "agencies": sorted(agencies),
    }
    event = CloudEvent(id=notice_id(withdrawal), source=SOURCE, spec_version="1.0", type=TYPE)
    event.attributes["datacontenttype"].ce_string = "application/json"
    event.attributes["recordedtime"].ce_timestamp.FromMilliseconds(now_ms)
    event.text_data = orjson.dumps(content).decode()
    return NewRecord(
        partition_key=key,
        identity=identity(SOURCE, event.id),
        digest=content_digest(event),
        body=event.SerializeToString(deterministic=True),
        recorded_ms=now_ms,
    )


def notice_id(withdrawal: Withdrawal) -> str:
    """The notice's own id."""
    return withdrawal.identity.hex()


def key_of_partition(withdrawal: Withdrawal, partition: int, partitions: int) -> bytes:
    """A partition key that leads to the partition: a notice follows the record where it can."""
    number = 0
    while True:
        key = b"%b\0%d" % (withdrawal.identity, number)
        if partition_for(key, partitions) == partition % partitions:
            return key
        number += 1


def read_notice(event: CloudEvent) -> Notice | None:
    """The notice that an event is, or None if it is something else."""
    if event.source != SOURCE or event.type != TYPE:
        return None
    try:
        content = orjson.loads(event.text_data)
        told = exchange_pb2.Withdrawal(
            source=content["source"],
            id=content["id"],
            type=content["type"],
            owner=content["owner"],
            contact=content["contact"],
            reason=content["reason"],
        )
        agencies = frozenset(str(agency) for agency in content["agencies"])
    except (ValueError, KeyError, TypeError):
        return None
    return Notice(told.source, told.id, told.owner, agencies, withdrawal_delivery(told))
