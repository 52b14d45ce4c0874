"""A tiny rulebook whose answers are data: for each topic, the outputs that an item on that topic gets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import orjson
import yaml

from broker.core.rulebook.load import revision_of
from broker.model.rulebook import Revision

ROOT = Path(__file__).resolve().parents[2]

Script = Mapping[str, Sequence[Mapping[str, object]]]
"""Topic -> outputs without their id; no output: the item vanishes, several: its id stands several times."""

SCRIPTED = b"""package entente.decision

decisions := [object.union(output, {"id": item.id}) |
	some item in input.items
	some output in data.data.script[item.topic]
]
"""

WITHHOLD: Mapping[str, object] = {
    "effect": "withhold",
    "treatments": {},
    "obligations": [],
    "reasons": ["scripted"],
}


def output(**changes: object) -> dict[str, object]:
    """A well-formed output without its id, changed as told."""
    return {**WITHHOLD, **changes}


def scripted_rulebook(script: Script, module: bytes = SCRIPTED, **files: bytes) -> Revision:
    """A revision with the project's schemas and built-ins that answers as `script` says; "canary" is always answered."""
    policy = ROOT / "policy"
    data = {"script": {"canary": [WITHHOLD], **script}}
    return revision_of(
        {
            "manifest.yaml": b"time_dependent: false\n",
            "capabilities.json": (policy / "capabilities.json").read_bytes(),
            "schemas/input.schema.json": (policy / "schemas/input.schema.json").read_bytes(),
            "schemas/decision.schema.json": (policy / "schemas/decision.schema.json").read_bytes(),
            "entente/decision/decision.rego": module,
            "data/data.yaml": yaml.safe_dump(orjson.loads(orjson.dumps(data))).encode(),
            **files,
        }
    )


def item(item_id: str, topic: str, **changes: object) -> dict[str, object]:
    """A well-formed deliver item."""
    labels = {
        "dataclassification": "green",
        "dataregulation": [],
        "datacategory": "",
        "purposes": [],
        "releasableto": [],
    }
    return {
        "id": item_id,
        "action": "deliver",
        "subject": {
            "agency": "ems",
            "roles": ["paramedic"],
            "attributes": {},
            "purpose": "emergency-response",
        },
        "topic": topic,
        "record": {
            "type": "gov.example.v1",
            "agency": "highway-patrol",
            "labels": labels,
            "markings": ["unreviewed"],
        },
        **changes,
    }
