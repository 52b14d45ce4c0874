"""What a rulebook must pass at the door, with the real `opa`."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import orjson
import pytest

from broker.adapters.opa import OpaCompiler
from broker.adapters.opa.builtins import PERMITTED
from broker.core.rulebook.check import check_rulebook
from broker.core.rulebook.load import read_rulebook, revision_of
from broker.model.rulebook import Revision
from tests.fakes.rulebook import ROOT

pytestmark = pytest.mark.opa
DEFAULT = read_rulebook(ROOT / "policy")
KEYS = {
    f"keys/{agency}.jwks.json": b'{"keys": []}'
    for agency in ("cyber-centre", "ems", "exchange", "highway-patrol", "partner-cert", "transport")
}
FILES = {**DEFAULT.files, **KEYS}


async def findings(opa: Path, **changed: bytes) -> tuple[str, ...]:
    found = await check_rulebook(OpaCompiler(opa), revision_of({**FILES, **changed}))
    assert all("\n" not in finding and "; " in finding for finding in found)
    return found


async def test_the_default_rulebook_passes(opa_binary: Path) -> None:
    assert await findings(opa_binary) == ()


async def test_a_key_file_that_is_missing_is_found(opa_binary: Path) -> None:
    files = {name: content for name, content in FILES.items() if name != "keys/ems.jwks.json"}
    found = await check_rulebook(OpaCompiler(opa_binary), revision_of(files))
    assert [finding.split("; ")[0] for finding in found] == [
        "data/agencies/ems/data.yaml: issuers: keys/ems.jwks.json is missing"
    ]


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (b"package agencies.ems\n\ndeny contains 1 if\n", "agencies/ems/extra.rego:"),
        (b"package agencies.ems\n\nx := time.now_ns()\n", "undefined function time.now_ns"),
        (
            b'package agencies.ems\n\nx := http.send({"method": "get", "url": "http://x"})\n',
            "undefined function http.send; correct the name, or do without it: capabilities.json holds",
        ),
        (b'package agencies.ems\n\nx := rand.intn("x", 3)\n', "undefined function rand.intn"),
        (b"package agencies.ems\n\nx := opa.runtime()\n", "undefined function opa.runtime"),
        (b'package agencies.ems\n\nx if print("x")\n', "undefined function internal.print"),
        (b"package agencies.ems\n\nf(x) := 1\n", "unused"),
        (b"package entente.decision\n\nextra := true\n", "agencies/ems/extra.rego:1"),
        (b"package system.authz\n\nallow := true\n", "agencies/ems/extra.rego:1"),
        (b"package agencies.ems\n\nx := data.data.agreements\n", "refers to data.data.agreements"),
        (b"package agencies.ems\n\nx := data[input.agency]\n", "data.<computed>"),
        (b"package agencies.ems\n\nx := data.token\n", "refers to data.token"),
        (b"package agencies.ems\n\nx := input.item.time\n", "refers to the time"),
        (b"package agencies.nobody\n", "'nobody'"),
    ],
)
async def test_a_module_that_may_not_be_is_found(opa_binary: Path, module: bytes, said: str) -> None:
    found = await findings(opa_binary, **{"agencies/ems/extra.rego": module})
    assert any(said in finding for finding in found), found


async def test_faults_of_the_data_are_told_before_the_modules(opa_binary: Path) -> None:
    found = await findings(opa_binary, **{"data/topics/data.yaml": b"x: 1\n"})
    assert found and all(finding.startswith("data/topics/data.yaml: ") for finding in found)


def capabilities(**changes: object) -> bytes:
    return orjson.dumps({**orjson.loads(DEFAULT.files["capabilities.json"]), **changes})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (capabilities(builtins=[{"name": "http.send"}]), "built-in 'http.send' is not permitted"),
        (capabilities(builtins=[{"name": "time.now_ns"}]), "built-in 'time.now_ns' is not permitted"),
        (capabilities(allow_net=["schemas.example"]), "allow_net must be an empty list"),
        (capabilities(allow_net=None), "allow_net must be an empty list"),
        (orjson.dumps({"builtins": []}), "is not what OPA reads"),
        (b"[]", "is not what OPA reads"),
        (b"{", "is not what OPA reads"),
        (capabilities(builtins=[]), "undefined function"),
    ],
)
async def test_a_revision_cannot_permit_itself_more(opa_binary: Path, content: bytes, said: str) -> None:
    found = await findings(opa_binary, **{"capabilities.json": content})
    assert any(said in finding for finding in found), found


async def test_a_schema_that_is_none_is_found(opa_binary: Path) -> None:
    found = await findings(opa_binary, **{"schemas/input.schema.json": b'{"type": "nothing"}'})
    assert any(finding.startswith("schemas/input.schema.json: ") for finding in found), found


async def test_modules_are_checked_against_the_schemas(opa_binary: Path) -> None:
    source = FILES["entente/decision/decision.rego"].replace(b"input.items", b"input.itemz")
    assert source != FILES["entente/decision/decision.rego"]
    found = await findings(opa_binary, **{"entente/decision/decision.rego": source})
    assert any(finding.startswith("entente/decision/decision.rego:") for finding in found), found


async def test_another_opa_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "opa"
    other.write_text("#!/bin/sh\necho 'Version: 0.70.0'\n")
    other.chmod(0o755)
    assert [f.split(": ")[1] for f in OpaCompiler(other).compile(DEFAULT)] == [
        "is not OPA 1.22; run `make setup`, or install the pinned version"
    ]
    assert "cannot be started" in OpaCompiler(tmp_path / "absent").compile(DEFAULT)[0]


def test_what_is_permitted_is_what_opa_calls_deterministic(opa_binary: Path) -> None:
    """OPA marks built-ins that may differ from call to call; the allow-list is narrower still, see its module."""
    listed = subprocess.run([opa_binary, "capabilities", "--current"], capture_output=True, check=True)
    known = {builtin["name"]: builtin for builtin in json.loads(listed.stdout)["builtins"]}
    assert known.keys() >= PERMITTED, "all of them exist in this OPA"
    assert not {name for name in PERMITTED if known[name].get("nondeterministic")}


def test_the_default_rulebook_permits_what_the_broker_permits() -> None:
    default: Revision = DEFAULT
    named = {builtin["name"] for builtin in orjson.loads(default.files["capabilities.json"])["builtins"]}
    assert named <= PERMITTED
