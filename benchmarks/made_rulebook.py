"""Makes rulebooks of any size: the default one, with agencies, record types, topics and agreements beside its own.

The same arguments make the same files. The spread is that of a country's offices: few own very many agreements, most own
some tens, few are a party to very many, and one type of record is published by all.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from broker.core.rulebook.load import read_rulebook

POLICY = Path(__file__).parents[1] / "policy"
SHARED_TYPE = "org.example.incident.v1"
_ROLES = ("agency-admin", "analyst", "officer")
_PURPOSES = ("law-enforcement", "road-safety-statistics", "emergency-response")
_MARKINGS = ("criminal", "identifier", "medical", "operational", "pii", "public", "technical")
_CLASSES = ("green", "amber", "amber+strict", "red")
_HUBS = 100
_BY_PROGRAM = 1_000
"""An owner of so many agreements writes them with a program, as JSON; others write YAML."""


@dataclass(frozen=True, slots=True)
class Size:
    """How large a rulebook is. with_types, with_modules: agencies that have record types or a module of their own."""

    agencies: int
    agreements: int
    with_types: int
    with_modules: int

    @classmethod
    def of(cls, agencies: int, agreements: int) -> Size:
        """The usual shares of so many agencies."""
        return cls(agencies, agreements, max(2, agencies // 60), max(2, agencies // 90))


def make_rulebook(size: Size, seed: int = 1) -> dict[str, bytes]:
    """The files of a rulebook, by path."""
    random = Random(seed)
    names = [f"office-{number:05d}" for number in range(size.agencies)]
    files = dict(read_rulebook(POLICY).files)
    files |= {f"keys/{name}.jwks.json": _keys(name) for name in names}
    own = [path.split("/")[2] for path in files if path.startswith("data/agencies/")]
    files |= {f"keys/{name}.jwks.json": _keys(name) for name in own}
    for name in names:
        files[f"data/agencies/{name}/data.yaml"] = _agency(name)
        files[f"data/administrators/{name}/data.yaml"] = b"- admin-1\n- admin-2\n"
    topics = _topics(names[: size.with_types])
    files["data/topics/data.yaml"] += _topics_file(topics)
    for name in names[: size.with_types]:
        files[f"data/record_types/{name}/data.yaml"] = _types(name, names)
    for name in names[: size.with_modules]:
        files[f"agencies/{name}/module.rego"] = _module(name)
        files[f"agencies/{name}/guarantees.yaml"] = _guarantees()
    for owner, agreements in _agreements(random, names, size).items():
        files[f"data/agreements/{owner}/data.yaml"] = _written(agreements)
    return files


def _agency(name: str) -> bytes:
    return f"""name: The office {name}
contact: desk@{name}.example
issuers:
  - issuer: https://{name}.example/issuer
    jwks_file: keys/{name}.jwks.json
roles: [{", ".join(_ROLES)}]
purposes: [{", ".join(_PURPOSES)}]
attributes:
  clearance: red
max_token_lifetime_s: 3600
""".encode()


def _keys(name: str) -> bytes:
    point = {
        "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
        "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
    }
    key = {"kty": "EC", "crv": "P-256", "kid": f"{name}-1", "use": "sig", "alg": "ES256", **point}
    return json.dumps({"keys": [key]}).encode()


def _topics(owners: Sequence[str]) -> Mapping[str, Sequence[str]]:
    """By topic, what it accepts: one for all, and one of each owner of types."""
    return {"incidents": [SHARED_TYPE], **{f"{owner}-records": [_type(owner)] for owner in owners}}


def _type(owner: str) -> str:
    return f"org.example.{owner}.v1"


def _topics_file(topics: Mapping[str, Sequence[str]]) -> bytes:
    lines = (
        f"{name}: {{description: Records, steward: {name.removesuffix('-records') if name != 'incidents' else 'exchange'},"
        f" accepts: [{', '.join(accepts)}], partitions: 1, retention_s: null}}\n"
        for name, accepts in topics.items()
    )
    return ("\n" + "".join(lines)).encode()


def _types(owner: str, names: Sequence[str]) -> bytes:
    """The first owner's is the type that all publish."""
    fields = {f"$.{marking}": [marking] for marking in _MARKINGS}
    one = {"content_type": "application/json", "fields": fields, "attributes": {}}
    types = {_type(owner): {**one, "description": "Records of this office", "publishers": [owner]}}
    if owner == names[0]:
        types[SHARED_TYPE] = {**one, "description": "What every office reports", "publishers": list(names)}
    return json.dumps(types, indent=1).encode()


def _module(name: str) -> bytes:
    return f"""package agencies["{name}"]

import data.entente.lib

deny contains "not for statistics" if {{
	input.side == "owner"
	lib.for_purpose(input.item, "road-safety-statistics")
	lib.in_category(input.item, "active-investigation")
}}

oblige contains "report-use" if input.side == "owner"
""".encode()


def _guarantees() -> bytes:
    return b"""medical-stays-here:
  why: Nobody needs it.
  side: owner
  subjects: {purposes: [road-safety-statistics]}
  never_keep: [medical]
"""


def _agreements(random: Random, names: Sequence[str], size: Size) -> dict[str, dict[str, object]]:
    """By owner and id. A tenth of all are the first owner's; the hubs are the consumers of a third of the others."""
    made: dict[str, dict[str, object]] = defaultdict(dict)
    hubs = names[:_HUBS]
    for number, owner in enumerate(_owners(random, names, size.agreements)):
        consumer = owner
        while consumer == owner:
            to_hub = owner != names[0] and random.random() < 1 / 3
            consumer = random.choice(hubs if to_hub else names)
        made[owner][f"{consumer}-{number:07d}"] = _agreement(
            random, owner, consumer, names[: size.with_types]
        )
    return made


def _owners(random: Random, names: Sequence[str], count: int) -> Iterator[str]:
    """An owner for each agreement: everybody has some, and the number falls with the rank."""
    first = count // 10
    yield from (names[0] for _ in range(first))
    weights = [1 / (rank + 20) + 1 / len(names) for rank in range(len(names))]
    yield from random.choices(names, weights, k=count - first)


def _agreement(random: Random, owner: str, consumer: str, with_types: Sequence[str]) -> dict[str, object]:
    topics = ["incidents"]
    if owner in with_types and random.random() < 0.5:
        topics = [f"{owner}-records"]
    marked = random.sample(_MARKINGS, random.randint(2, 5))
    kinds = ("keep", "keep", "mask", "pseudonym")
    return {
        "consumer": consumer,
        "topics": topics,
        "purposes": random.sample(_PURPOSES, random.randint(1, 2)),
        "highest": random.choice(_CLASSES),
        "grants": "records" if random.random() < 0.9 else "notice",
        "treatments": {
            m: {"kind": "remove" if m == "medical" else random.choice(kinds)} for m in sorted(marked)
        },
        "obligations": ["delete-after-90-days"] if random.random() < 0.5 else [],
        "from": f"202{random.randint(0, 6)}-0{random.randint(1, 9)}-01T00:00:00Z",
        "until": None if random.random() < 0.7 else "2031-01-01T00:00:00Z",
        "history": random.random() < 0.5,
    }


def _written(agreements: Mapping[str, object]) -> bytes:
    if len(agreements) >= _BY_PROGRAM:
        lines = (f" {json.dumps(name)}: {json.dumps(value)}" for name, value in agreements.items())
        return ("{\n" + ",\n".join(lines) + "\n}\n").encode()
    return "".join(_by_hand(name, value) for name, value in agreements.items()).encode()


def _by_hand(name: str, agreement: object) -> str:
    members = agreement.items() if isinstance(agreement, dict) else ()
    lines = (f"  {key}: {json.dumps(value)}\n" for key, value in members if key != "treatments")
    treatments = agreement["treatments"] if isinstance(agreement, dict) else {}
    kinds = "".join(f"    {marking}: {{kind: {each['kind']}}}\n" for marking, each in treatments.items())
    return (
        f"{name}:\n" + "".join(lines) + (f"  treatments:\n{kinds}" if kinds else "  treatments: {}\n") + "\n"
    )
