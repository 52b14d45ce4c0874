"""Rulebooks for tests: the default one with a topic that two agencies publish on, and agreements of every kind."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import yaml

from broker.app.initialise import DEFAULT_RULEBOOK
from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent
from tests.integration.exchange.records import event

ALERTS, ALERT_TYPE = "alerts", "test.alert.v1"
PAST, FUTURE = "2026-01-01T00:00:00Z", "2999-01-01T00:00:00Z"


def with_alerts(directory: Path) -> Path:
    """The default rulebook with topic `alerts`, on which highway-patrol and transport publish one record type.

    To ems, highway-patrol grants all of it but what is marked `pii`, and transport only what is `operational`, with an
    obligation. To cyber-centre, highway-patrol's begins in the far future and transport's ended. To partner-cert,
    highway-patrol grants `green` only, from the past on, without history.
    """
    shutil.copytree(
        DEFAULT_RULEBOOK, directory, ignore=shutil.ignore_patterns("*.py", "__pycache__", "cases")
    )
    data = directory / "data"
    _add(
        data / "topics/data.yaml",
        {ALERTS: _topic(1), "quiet": _topic(1)},
    )
    _add(
        data / "record_types/transport/data.yaml",
        {
            ALERT_TYPE: {
                "description": "An alert",
                "content_type": "application/json",
                "publishers": ["highway-patrol", "transport"],
                "fields": {"$.text": ["operational"], "$.name": ["pii"]},
                "attributes": {},
            }
        },
    )
    _add(
        data / "agreements/highway-patrol/data.yaml",
        {
            "alerts-ems": _agreement("ems", "emergency-response", {"operational": "keep", "pii": "keep"}),
            "alerts-cyber": _agreement(
                "cyber-centre", "cyber-defence", {"operational": "keep"}, since=FUTURE
            ),
            "alerts-cert": _agreement(
                "partner-cert", "cyber-defence", {"operational": "keep"}, highest="green", history=False
            ),
        },
    )
    _add(
        data / "agreements/transport/data.yaml",
        {
            "alerts-ems": _agreement(
                "ems", "emergency-response", {"operational": "mask"}, obligations=["call-back"]
            ),
            "alerts-cyber": _agreement(
                "cyber-centre", "cyber-defence", {"operational": "keep"}, until="2026-02-01T00:00:00Z"
            ),
        },
    )
    return directory


def alert(agency: str, text: str, classification: str = "green", **attributes: str) -> CloudEvent:
    """An alert of an agency; all of them have one partition."""
    data = {"text": text, "name": f"name of {text}", "new": f"new of {text}"}
    labels = {"dataclassification": classification, "partitionkey": "one"}
    return event(ALERT_TYPE, f"//{agency}/desk", data, **{**labels, **attributes})


def _topic(partitions: int) -> dict[str, Any]:
    return {
        "description": "Alerts",
        "steward": "transport",
        "accepts": [ALERT_TYPE],
        "partitions": partitions,
        "retention_s": None,
    }


def _agreement(
    consumer: str,
    purpose: str,
    treatments: dict[str, str],
    *,
    highest: str = "amber",
    since: str = PAST,
    until: str | None = None,
    history: bool = True,
    obligations: list[str] | None = None,
) -> dict[str, Any]:
    return {
        "consumer": consumer,
        "topics": [ALERTS, "quiet"],
        "purposes": [purpose],
        "highest": highest,
        "grants": "records",
        "treatments": {marking: {"kind": kind} for marking, kind in treatments.items()},
        "obligations": obligations or [],
        "from": since,
        "until": until,
        "history": history,
    }


def _add(path: Path, members: dict[str, Any]) -> None:
    known = yaml.safe_load(path.read_text()) if path.exists() else {}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump({**known, **members}, sort_keys=False))
