"""The default rulebook's own tests, form and built-ins, by the pinned OPA."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.policy.engine import RULEBOOK, run_opa

pytestmark = pytest.mark.opa

CAPABILITIES = RULEBOOK / "capabilities.json"
CHECK = (
    "check",
    "--strict",
    "--bundle",
    "--schema",
    str(RULEBOOK / "schemas"),
    "--capabilities",
    str(CAPABILITIES),
)

FORBIDDEN = re.compile(
    r"http\.|net\.|rand\.|io\.jwt\.|crypto\.x509\.|crypto\.parse_private|opa\.|rego\.|providers\.|graphql\.|uuid\.rfc|"
    r"json\.(match|verify)_schema|time\.(now|clock|date|diff|format|parse_ns|weekday)|trace$|print$|internal\.(print|test)"
)
"""Reads a clock, the network, randomness, the environment, the host's time zones, or tells about other modules."""


def test_rego_tests_pass(opa_binary: Path) -> None:
    done = run_opa(opa_binary, "test", "--bundle", "--format", "json", str(RULEBOOK))

    results: list[dict[str, Any]] = json.loads(done.stdout)
    assert done.returncode == 0, done.stdout
    assert [result["name"] for result in results if result.get("fail") or result.get("error")] == []
    assert len(results) > 90


def test_each_package_has_its_tests_beside_it() -> None:
    modules = [path for path in RULEBOOK.rglob("*.rego") if not path.stem.endswith("_test")]

    assert len(modules) > 10
    assert [path for path in modules if not path.with_name(f"{path.stem}_test.rego").exists()] == []


def test_modules_are_formatted(opa_binary: Path) -> None:
    done = run_opa(
        opa_binary, "fmt", "--list", "--fail", str(RULEBOOK / "entente"), str(RULEBOOK / "agencies")
    )

    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_strict_check_with_schemas_and_permitted_built_ins(opa_binary: Path) -> None:
    done = run_opa(opa_binary, *CHECK, str(RULEBOOK))

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("path", "right", "wrong"),
    [
        ("agencies/cyber-centre/module.rego", "input.item.action", "input.item.acton"),
        ("agencies/ems/module.rego", "input.side", "input.sides"),
        ("entente/decision/decision.rego", "input.items", "input.item"),
    ],
)
def test_the_schemas_catch_a_misspelt_input(
    opa_binary: Path, tmp_path: Path, path: str, right: str, wrong: str
) -> None:
    for source in RULEBOOK.rglob("*.rego"):
        target = tmp_path / source.relative_to(RULEBOOK)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(source.read_text())
    broken = (tmp_path / path).read_text()
    assert right in broken
    (tmp_path / path).write_text(broken.replace(right, wrong))

    done = run_opa(opa_binary, *CHECK, str(tmp_path))

    assert done.returncode != 0
    assert "rego_type_error: undefined ref" in done.stderr


def test_capabilities_are_opa_s_own_without_what_is_forbidden(opa_binary: Path) -> None:
    current = json.loads(run_opa(opa_binary, "capabilities", "--current").stdout)
    signatures = {builtin["name"]: builtin for builtin in current["builtins"]}
    allowed = json.loads(CAPABILITIES.read_text())

    assert allowed["allow_net"] == []
    assert allowed["future_keywords"] == []
    assert set(allowed["features"]) <= set(current["features"])
    assert len(allowed["builtins"]) > 80
    for builtin in allowed["builtins"]:
        assert builtin == signatures[builtin["name"]]
        assert not builtin.get("nondeterministic")
        assert not FORBIDDEN.match(builtin["name"]), builtin["name"]


FORBIDDEN_CALLS = {
    "clock": "time.now_ns() > 0",
    "network": 'http.send({"method": "get", "url": "http://localhost"}).status_code == 200',
    "name lookup": 'net.lookup_ip_addr("localhost") != set()',
    "randomness": 'rand.intn("x", 7) > 3',
    "uuid": 'uuid.rfc4122("x") != ""',
    "environment": "opa.runtime().env.HOME",
    "certificates": 'crypto.x509.parse_and_verify_certificates("x")[0]',
    "tokens": 'io.jwt.decode_verify("x", {})[0]',
    "time zones": 'time.clock([0, "Europe/Paris"])[0] == 1',
    "local time": 'time.parse_ns("MST", "CET") > 0',
    "schemas from elsewhere": 'json.match_schema({}, "http://localhost/x")[0]',
    "trace": 'trace("x")',
    "print": 'print("x")',
}


@pytest.mark.parametrize("call", FORBIDDEN_CALLS.values(), ids=FORBIDDEN_CALLS.keys())
def test_a_module_that_uses_what_is_forbidden_is_refused(opa_binary: Path, tmp_path: Path, call: str) -> None:
    module = tmp_path / "module.rego"
    module.write_text(f'package agencies.ems\n\ndeny contains "no" if {call}\n')
    assert run_opa(opa_binary, "check", "--strict", str(module)).returncode == 0 or call.startswith("print")

    done = run_opa(opa_binary, "check", "--strict", "--capabilities", str(CAPABILITIES), str(module))

    assert done.returncode != 0
    assert "undefined function" in done.stderr


def test_agreements_name_what_is_registered() -> None:
    """Every word of an agreement is one that the rulebook knows; otherwise it would silently apply to nothing."""
    data = {path: yaml.safe_load(path.read_text()) for path in (RULEBOOK / "data").rglob("data.yaml")}
    agencies = {path.parent.name for path in data if path.parent.parent.name == "agencies"}
    topics = data[RULEBOOK / "data/topics/data.yaml"]
    words = data[RULEBOOK / "data/vocabulary/data.yaml"]
    for path in sorted((RULEBOOK / "data/agreements").glob("*/data.yaml")):
        for agreement in data[path].values():
            assert {agreement["consumer"], path.parent.name} <= agencies
            assert set(agreement["topics"]) <= set(topics)
            assert set(agreement["purposes"]) <= set(words["purposes"])
            assert agreement["highest"] in words["classifications"]
            assert set(agreement["treatments"]) <= set(words["markings"])
