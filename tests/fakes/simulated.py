"""Ledger entries, stored records and rulebooks for simulations; agreements are functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache

from broker.core.ledger.leaf import encode
from broker.core.rulebook.load import read_rulebook
from broker.core.rulebook.registry import parse_registry
from broker.core.simulate.model import RecordKind, Side
from broker.model.decision import Decision, Effect
from broker.model.labels import Labels
from broker.model.ledger import EncodedEntry, JsonValue, LedgerEntry
from broker.model.principal import SubjectClass
from broker.model.record import StoredRecord
from broker.model.registry import Registry
from broker.model.rulebook import Revision
from broker.ports.policy_engine import Item
from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent
from tests.fakes.rulebook import ROOT
from tests.fakes.trial import FunctionTrial

CRASH = "gov.niem.crash-driver.v1"
WITHHOLD = Decision(Effect.WITHHOLD)
PERMIT = Decision(Effect.RELEASE)

MEDIC = SubjectClass("ems", ("paramedic",), (("clearance", "red"),), "emergency-response")
ANALYST = SubjectClass("transport", ("analyst",), (("clearance", "amber"),), "road-safety-statistics")

Grants = Callable[[Item], Decision]
"""What becomes of an item of the action `deliver`."""


@cache
def sample_revision() -> Revision:
    return read_rulebook(ROOT / "policy")


@cache
def sample_registry() -> Registry:
    return parse_registry(sample_revision())


def kind(
    classification: str = "amber", owner: str = "highway-patrol", releasableto: tuple[str, ...] = ()
) -> RecordKind:
    return RecordKind("crash-reports", CRASH, owner, Labels(classification, releasableto=releasableto))


def side(
    grants: Grants,
    registry: Registry | None = None,
    *,
    permitted: Callable[[Item], Decision] = lambda item: PERMIT,
    files: Mapping[str, bytes] | None = None,
    time_dependent: bool = False,
) -> Side:
    """A rulebook that delivers as `grants` says; files: beside those of the sample rulebook."""

    def decide(item: Item) -> Decision:
        return grants(item) if item["action"] == "deliver" else permitted(item)

    revision = Revision(
        f"sha256:{id(grants):064x}", {**sample_revision().files, **(files or {})}, time_dependent
    )
    return Side(revision, registry or sample_registry(), FunctionTrial(decide))


def granting(decision: Decision, *agencies: str, owner: str = "highway-patrol") -> Grants:
    """The decision about the owner's records for these agencies, nothing for others."""

    def grants(item: Item) -> Decision:
        subject, record = item["subject"], item["record"]
        mine = record["agency"] == owner and subject["agency"] in agencies  # type: ignore[index]
        return decision if mine else WITHHOLD

    return grants


def asked(subject: SubjectClass, record: RecordKind) -> JsonValue:
    """A recorded decision; what it says does not matter here."""
    labels: dict[str, JsonValue] = dict(record.labels.as_input())  # type: ignore[arg-type]
    who: dict[str, JsonValue] = dict(subject.as_input())  # type: ignore[arg-type]
    row: JsonValue = {
        "type": record.type,
        "agency": record.owner,
        "labels": labels,
        "markings": ["unreviewed"],
    }
    item: JsonValue = {"action": "deliver", "subject": who, "topic": record.topic, "record": row}
    return {
        "input": item,
        "output": {"effect": "withhold", "treatments": {}, "obligations": [], "reasons": []},
    }


def delivery(
    time_ms: int,
    subject: SubjectClass,
    handed_out: Mapping[RecordKind, int],
    withheld: Mapping[RecordKind, int],
    receivers: int = 1,
    index: int = 0,
) -> EncodedEntry:
    """An entry of one batch: so many records of each kind handed out and withheld."""
    places = [(number, count) for number, count in enumerate(handed_out.values())]
    runs: list[JsonValue] = [[0, 10_000 * number, number, count] for number, count in places if count > 1]
    runs += [[0, 10_000 * number, number] for number, count in places if count == 1]
    total = sum(handed_out.values())
    topic = next(iter({**handed_out, **withheld})).topic
    history: JsonValue = {
        "from": {"next": [0], "lags": []},
        "to": {"next": [total + sum(withheld.values())], "lags": []},
        "outcomes": {"release": total, "withhold": sum(withheld.values())},
        "withheld": [[asked(subject, record), count] for record, count in withheld.items()],
        "receivers": list(range(receivers)),
    }
    body: dict[str, JsonValue] = {
        **_COMMON,
        "class": {"topic": topic, **subject.as_input()},  # type: ignore[dict-item]
        "receivers": [_receiver(number) for number in range(receivers)],
        "count": total,
        "places": runs,
        "decisions": [asked(subject, record) for record in handed_out],
        "considered": [history],
    }
    entry = LedgerEntry("delivery", time_ms, body, {"handed_out": bytes(32)})
    return encode(entry, "broker", 1, index, bytes(32))


def publication(time_ms: int, record: RecordKind, names: Sequence[str], index: int = 0) -> EncodedEntry:
    """An entry of one call that published records of a kind."""
    labels: dict[str, JsonValue] = dict(record.labels.as_input())  # type: ignore[arg-type]
    source = f"//{record.owner}/cad"
    rows: list[JsonValue] = [
        {"source": source, "id": name, "type": record.type, "labels": labels, "duplicate": False}
        for name in names
    ]
    who: dict[str, JsonValue] = {"agency": record.owner, "subject": "cad", "roles": [], "attributes": {}}
    body: dict[str, JsonValue] = {
        **_COMMON,
        "who": {**who, "token": "t", "certificate": None},
        "call": {"topic": record.topic, "reference": "r"},
        "records": rows,
        "stored": [[0, number] for number in range(len(names))],
        "decisions": [],
    }
    return encode(LedgerEntry("publish", time_ms, body), "broker", 1, index, bytes(32))


_COMMON: dict[str, JsonValue] = {
    "rules": {"revision": "sha256:0", "engine": "opa 1.22.2"},
    "digest": {"nonce": "AAAAAAAAAAAAAAAAAAAAAA==", "key": 0},
}


def _receiver(number: int) -> JsonValue:
    named: dict[str, JsonValue] = {"subject": f"person-{number}", "token": "t", "certificate": None}
    return {**named, "subscription": "", "epoch": 1, "stream": f"s-{number}"}


def stored(
    record: RecordKind, name: str, recorded_ms: int, *, expires: str | None = None, payload: bytes = b"{}"
) -> StoredRecord:
    event = CloudEvent(
        id=name, source=f"//{record.owner}/cad", spec_version="1.0", type=record.type, binary_data=payload
    )
    labels = record.labels
    texts = {
        "dataclassification": labels.dataclassification,
        "dataregulation": ",".join(labels.dataregulation),
        "datacategory": labels.datacategory,
        "purposes": ",".join(labels.purposes),
        "releasableto": ",".join(labels.releasableto),
        "expirytime": expires or "",
    }
    for attribute, text in texts.items():
        if text:
            event.attributes[attribute].ce_string = text
    return StoredRecord(0, recorded_ms, recorded_ms, event.SerializeToString(deterministic=True))
