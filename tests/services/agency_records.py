"""Records that an agency has in its own Kafka, and the model of what another agency is entitled to of them.

cyber-centre's source publishes vulnerabilities, and partner-cert's sink receives them under the default rulebook. A record
is a pure function of the seed and its number, and what becomes of it follows from policy/ as it reads, not from the
exchange: so nothing has to be remembered, and any number of them can be held against what has arrived.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import orjson

Kind = Literal["record", "no-json", "no-label", "strange-label", "refused"]
"""`refused`: good for the mapping, and not for the exchange, which takes no number that would lose precision."""

_CLASSIFICATIONS = {
    "WHITE": "clear",
    "GREEN": "green",
    "AMBER": "amber",
    "STRICT": "amber+strict",
    "RED": "red",
}
_PURPOSES = {"all": ["cyber-defence", "law-enforcement"], "police": ["law-enforcement"]}
_AGENCIES = {"all": ["highway-patrol", "partner-cert"], "police": ["highway-patrol"]}
_CATEGORIES = {"usual": "standard", "persons": "special-category", "case": "active-investigation"}
SOURCE = "//cyber-centre/kev"
SECRET = "kept-in-the-agency"

MAPPING: Mapping[str, Any] = {
    "type": "gov.cisa.kev.v1",
    "source": SOURCE,
    "id": {"path": "$.cveID"},
    "subject": {"key": True},
    "partition_key": {"key": True},
    "labels": {
        "dataclassification": {"path": "$.tlp", "table": _CLASSIFICATIONS},
        "purposes": {"path": "$.use", "table": _PURPOSES},
        "releasableto": {"path": "$.to", "table": _AGENCIES},
        "datacategory": {"path": "$.about", "table": _CATEGORIES},
    },
}
"""The table `map` of the source."""


@dataclass(frozen=True, slots=True)
class Entitled:
    """What partner-cert is to hold of a record."""

    data: Mapping[str, Any]
    classification: str
    obligations: frozenset[str]


@dataclass(frozen=True, slots=True)
class AgencyRecord:
    """One record in the agency's Kafka; `entitled` is None where partner-cert is to hold nothing of it."""

    number: int
    kind: Kind
    key: str
    value: bytes
    entitled: Entitled | None


@dataclass(frozen=True, slots=True)
class Made:
    """A series of records: the n-th of a seed, over so many keys; a record's data are about `filler_bytes` longer than 200.

    poison: of so many records one is of a kind that must not be sent; 0 for none.
    """

    seed: int
    keys: int
    filler_bytes: int = 0
    poison: int = 40

    def record(self, number: int) -> AgencyRecord:
        """The record of this number."""
        dice = hashlib.blake2b(f"{self.seed}/{number}".encode(), digest_size=8).digest()
        key = f"key-{int.from_bytes(dice[:2]) % self.keys}"
        labels = {
            "tlp": ("WHITE", "GREEN", "GREEN", "WHITE", "AMBER", "STRICT", "RED", "GREEN")[dice[2] % 8],
            "use": "police" if dice[3] % 8 == 0 else "all",
            "to": "police" if dice[4] % 8 == 0 else "all",
            "about": ("usual", "usual", "usual", "persons", "case")[dice[5] % 5],
        }
        known = {
            "cveID": f"CVE-{number}",
            "product": f"product of {key}",
            "shortDescription": "x" * self.filler_bytes,
        }
        document = {**known, **labels, "desk": f"{SECRET}-{number}"}
        if self.poison and int.from_bytes(dice[6:]) % self.poison == 0:
            kind, value = _poisoned(dice[6] % 4, document)
            return AgencyRecord(number, kind, key, value, None)
        return AgencyRecord(number, "record", key, orjson.dumps(document), _entitled(labels, known))

    def records(self, first: int, count: int) -> Iterator[AgencyRecord]:
        """So many in order."""
        return map(self.record, range(first, first + count))


def _poisoned(die: int, document: dict[str, Any]) -> tuple[Kind, bytes]:
    if die == 0:
        return "no-json", orjson.dumps(document)[:-1]
    if die == 1:
        return "no-label", orjson.dumps({**document, "tlp": None})
    if die == 2:
        return "strange-label", orjson.dumps({**document, "tlp": "MAUVE"})
    return "refused", orjson.dumps(document)[:-1] + b',"score":0.10000000000000000000000001}'


def _entitled(labels: Mapping[str, str], known: Mapping[str, Any]) -> Entitled | None:
    """As policy/ has it for partner-cert, cleared for green, under its agreement with cyber-centre.

    That grants `green` for cyber-defence and keeps every field that the record type names; the others are `unreviewed`.
    cyber-centre's own module keeps active investigations for law enforcement, and has special categories deleted.
    """
    classification = _CLASSIFICATIONS[labels["tlp"]]
    granted = (
        classification in ("clear", "green")
        and "cyber-defence" in _PURPOSES[labels["use"]]
        and "partner-cert" in _AGENCIES[labels["to"]]
        and labels["about"] != "case"
    )
    obligations = {"delete-when-purpose-served"} if labels["about"] == "persons" else set()
    return Entitled(known, classification, frozenset(obligations)) if granted else None


@dataclass(frozen=True, slots=True)
class Arrived:
    """One record of partner-cert's topic: its partition, key, value and headers, as its own Kafka holds them."""

    partition: int
    key: bytes | None
    value: bytes | None
    headers: Mapping[str, bytes]

    @property
    def number(self) -> int:
        """Of the record that it came from."""
        return int(self.headers["ce_id"].removeprefix(b"CVE-"))


def check_arrived(made: Made, count: int, arrived: Iterable[Arrived]) -> int:
    """Hold what has arrived against the model of `count` records: all of it, once each, in its form, in order per key.

    `arrived` in the order of each partition; each key has to be in one partition. How many there are; raises
    AssertionError with the numbers, never with contents.
    """
    seen = bytearray(count)
    newest: dict[str, tuple[int, int]] = {}
    for each in arrived:
        number = each.number
        assert 0 <= number < count and not seen[number], f"record {number} has arrived twice, or never was"
        seen[number] = 1
        record = made.record(number)
        assert record.entitled is not None, f"record {number} ({record.kind}) has arrived and was not to"
        _check_form(each, record, record.entitled)
        partition, before = newest.get(record.key, (each.partition, -1))
        assert partition == each.partition, f"{record.key} is in two partitions"
        assert before < number, f"{record.key}: {number} has arrived after {before}"
        newest[record.key] = partition, number
    missing = [n for n in range(count) if not seen[n] and made.record(n).entitled is not None]
    assert not missing, f"{len(missing)} records have not arrived, the first are {missing[:10]}"
    return sum(seen)


def _check_form(arrived: Arrived, record: AgencyRecord, entitled: Entitled) -> None:
    headers = arrived.headers
    attributes = {
        "ce_specversion": "1.0",
        "ce_source": SOURCE,
        "ce_type": "gov.cisa.kev.v1",
        "ce_subject": record.key,
        "ce_dataclassification": entitled.classification,
        "content-type": "application/json",
    }
    for name, value in attributes.items():
        assert headers[name].decode() == value, f"record {record.number}: {name}"
    assert arrived.value is not None and orjson.loads(arrived.value) == entitled.data, (
        f"record {record.number}"
    )
    assert base64.b64decode(headers["entente-receipt"], validate=True), f"record {record.number}: receipt"
    obligations = headers.get("entente-obligations", b"").decode()
    found = frozenset(obligations.split(",")) if obligations else frozenset()
    assert found == entitled.obligations, f"record {record.number}: obligations"


def entitled_among(made: Made, count: int) -> int:
    """How many of the first `count` records partner-cert is to hold."""
    return sum(record.entitled is not None for record in made.records(0, count))
