"""The distribution entente-client says what the project says: versions, entry points, and no more than it needs."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def project(path: str) -> dict[str, Any]:
    """What a pyproject.toml declares."""
    declared: dict[str, Any] = tomllib.loads((ROOT / path).read_text())["project"]
    return declared


WHOLE, CLIENT = project("pyproject.toml"), project("deploy/client/pyproject.toml")


def test_versions_are_those_that_are_tested_together() -> None:
    extras = [each for extra in CLIENT["optional-dependencies"].values() for each in extra]
    assert set(CLIENT["dependencies"]) | set(extras) <= set(WHOLE["dependencies"])
    for name in ("version", "requires-python"):
        assert CLIENT[name] == WHOLE[name]


def test_plugins_and_commands_are_the_same() -> None:
    assert CLIENT["entry-points"] == WHOLE["entry-points"]
    assert CLIENT["scripts"].items() <= WHOLE["scripts"].items()


def test_the_client_alone_needs_the_transport_only() -> None:
    names = {each.partition("==")[0] for each in CLIENT["dependencies"]}
    assert names == {"googleapis-common-protos", "grpcio", "protobuf"}
    assert set(CLIENT["optional-dependencies"]) == {"connect", "kafka"}
