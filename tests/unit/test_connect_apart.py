"""Connectors of one run that would take something from each other are refused before anything starts."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from connectors.runtime.configuration import read_configuration
from connectors.runtime.settings import ConfigurationRefused

MAP = {"type": "t.v1", "source": "//ems/x", "labels": {"dataclassification": "green"}}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A directory with tokens: two of one person, one of another, and one that is no JWT."""
    tokens = {"mine": "p-1", "renewed": "p-1", "other": "p-2"}
    for number, (name, subject) in enumerate(tokens.items()):
        claims = json.dumps({"iss": "https://ems.example", "sub": subject, "jti": str(number)}).encode()
        put(tmp_path / name, f"e30.{base64.urlsafe_b64encode(claims).rstrip(b'=').decode()}.c2ln")
    put(tmp_path / "opaque", "canary")
    return tmp_path


def put(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)


def sink(token: str = "mine", endpoint: str = "exchange.example:7443", **settings: Any) -> dict[str, Any]:
    return {
        "plugin": "file-sink",
        "exchange": {"endpoint": endpoint, "token_file": token},
        "topic": "crash-reports",
        "purpose": "care",
        "directory": "incoming",
        **settings,
    }


def refused(root: Path, **connectors: dict[str, Any]) -> list[str]:
    """The findings of a file with these."""
    file = root / "connect.toml"
    file.write_text(tomli_w.dumps({"connectors": connectors}))
    try:
        read_configuration([file])
    except ConfigurationRefused as refused:
        assert "canary" not in str(refused)
        return [finding.removeprefix(f"{file}: ") for finding in refused.findings]
    return []


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (sink(subscription="s"), sink(subscription="s", topic="vulnerabilities", purpose="research")),
        (sink(subscription="s"), sink("renewed", subscription="s")),
        (sink("opaque", subscription="s"), sink("opaque", subscription="s")),
        (sink(subscription="connect-b"), sink()),
    ],
    ids=["whatever-the-topic", "another-token", "the-same-file", "by-default"],
)
def test_a_subscription_has_one_sink(root: Path, first: dict[str, Any], second: dict[str, Any]) -> None:
    (finding,) = refused(root, a=first, b=second)
    where = f"connectors.b.subscription: is the same as connectors.a.subscription in {root / 'connect.toml'}"
    assert finding == f"{where}, as the same principal: each would end the other's stream; name another"


@pytest.mark.parametrize(
    "second",
    [
        sink(),
        sink("other", subscription="s"),
        sink("opaque", subscription="s"),
        sink(endpoint="elsewhere.example:7443", subscription="s"),
    ],
    ids=["another-name", "another-person", "who-knows", "another-exchange"],
)
def test_what_is_not_shared_is_not_refused(root: Path, second: dict[str, Any]) -> None:
    assert refused(root, a=sink(subscription="s"), b=second) == []


def test_receipts_of_two_connectors_are_not_mixed(root: Path) -> None:
    source = {
        "plugin": "file-source",
        "exchange": sink()["exchange"],
        "topic": "crash-reports",
        "directory": "outgoing",
        "map": MAP,
    }
    a, b, c, d = (
        source | {"receipts": name} for name in ("r.jsonl", "r.jsonl.1", str(root / "r.jsonl"), "s.jsonl")
    )
    found = refused(root, a=a, b=b, c=c, d=d)
    assert [finding.split(":")[0] for finding in found] == ["connectors.b.receipts", "connectors.c.receipts"]
    assert all("each needs a file of its own" in finding for finding in found)
