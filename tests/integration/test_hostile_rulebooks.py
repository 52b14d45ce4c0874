"""Rulebooks from people who want to harm the exchange, through the door by which a proposal comes in.

Each is refused with a line that names the file and, where there is one, the line; none is run.
"""

from __future__ import annotations

import gzip
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from broker.adapters.opa import OpaCompiler, OpaTrials, TrialLimits
from broker.core.rulebook.archive import read_archive
from broker.core.rulebook.examine import examine
from broker.core.rulebook.findings import Severity
from broker.core.rulebook.load import read_rulebook
from broker.errors import RulebookRefused
from broker.ports.rulebook_trial import TrialEngines
from tests.fakes.rulebook import ROOT
from tests.fakes.tar import END, extended, header, negative, packed, padded, write
from tests.fakes.trial import NeverStarted

pytestmark = pytest.mark.opa

POLICY = read_rulebook(ROOT / "policy").files
KEPT = ("cases/principals.yaml", "cases/records.yaml")
GOOD = {
    **{
        path: content
        for path, content in POLICY.items()
        if path in KEPT or not (path.startswith("cases/") or path.endswith(("_test.rego", "guarantees.yaml")))
    },
    **{
        f"keys/{path.split('/')[2]}.jwks.json": b'{"keys": []}'
        for path in POLICY
        if path.startswith("data/agencies/")
    },
    "cases/some.yaml": b"- {who: paramedic, record: crash, effect: release}\n",
}
NAME = "entente/x/x.rego"
MODULE = "agencies/ems/module.rego"


async def refusals(opa: Path, archive: Path, engines: TrialEngines | None = None) -> list[str]:
    """Every error about what was sent; where it was kept for that is left out."""
    try:
        revision = read_archive(archive)
    except RulebookRefused as refused:
        return [finding.removeprefix(f"{archive}: ") for finding in refused.findings]
    found = (await examine(OpaCompiler(opa), engines or NeverStarted(), revision)).findings
    return [str(each) for each in found if each.severity is Severity.ERROR]


async def test_the_same_door_lets_a_good_rulebook_in(opa_binary: Path, tmp_path: Path) -> None:
    archive = write(tmp_path / "r.tar.gz", packed(GOOD))
    assert await refusals(opa_binary, archive, OpaTrials(opa_binary)) == []


UNREADABLE = "is no tar.gz that can be read"
ENTRY = header(NAME, 0)
ARCHIVES: Mapping[str, tuple[bytes, str]] = {
    "a zip file": (b"PK\x03\x04" + bytes(100), UNREADABLE),
    "a bomb": (gzip.compress(bytes(64 * 1024 * 1024), 1) * 16, "more than 536870912 bytes"),
    "a chain of headers": (packed(GOOD, extended(comment="x") * 5_000, ENTRY), UNREADABLE),
    "a chain of long names": (
        packed(
            GOOD, (header("././@LongLink", 4, tarfile.GNUTYPE_LONGNAME) + padded(b"abc\0")) * 5_000, ENTRY
        ),
        UNREADABLE,
    ),
    "a negative size": (packed(GOOD, header(NAME, 0, written=negative(1024))), UNREADABLE),
    "a negative size that is extended": (packed(GOOD, extended(size="-1024"), ENTRY), UNREADABLE),
    "a negative size of a folder": (
        packed(GOOD, header("entente", 0, tarfile.DIRTYPE, negative(512 * 40))),
        "entente: has a negative size",
    ),
    "files within each other": (
        packed(
            GOOD,
            header(NAME, 2048),
            ENTRY,
            END,
            bytes(512),
            extended(size="-2560"),
            header("entente/y/y.rego", 0),
        ),
        UNREADABLE,
    ),
    "a size beyond any disk": (
        packed(GOOD, header(NAME, 0, written=b"\x80" + (2**80).to_bytes(11, "big"))),
        "more than 536870912 bytes",
    ),
    "a way out": (packed(GOOD, header("entente/../../x.rego", 0)), "entente/../../x.rego: leads out"),
    "a way out that is extended": (packed(GOOD, extended(path="../x.rego"), ENTRY), "../x.rego: leads out"),
    "an absolute name": (packed(GOOD, header("/etc/cron.d/x", 0)), "/etc/cron.d/x: has an absolute name"),
    "a Windows name": (packed(GOOD, header("entente\\x.rego", 0)), "is not part of a rulebook"),
    "a symbolic link": (packed(GOOD, header(NAME, 0, tarfile.SYMTYPE)), f"{NAME}: is neither a plain file"),
    "a hard link": (packed(GOOD, header(NAME, 0, tarfile.LNKTYPE)), f"{NAME}: is neither a plain file"),
    "a device": (packed(GOOD, header(NAME, 0, tarfile.BLKTYPE)), f"{NAME}: is neither a plain file"),
    "a file twice": (packed(GOOD, header("manifest.yaml", 0)), "manifest.yaml: stands twice"),
    "a file that is a folder": (
        packed({**GOOD, "entente/x/x.rego/y.rego": b"package entente.x", NAME: b"package entente.x"}),
        f"{NAME}: is a file and a folder at once",
    ),
    "ten thousand files": (
        packed({**GOOD, **{f"agencies/ems/m{number}.rego": b"" for number in range(10_000)}}),
        "agencies/ems: holds 100",
    ),
    "a large file of cases": (
        packed({**GOOD, "cases/large.yaml": b"#" * 1_048_577}),
        "cases/large.yaml: is larger than 1048576 bytes",
    ),
    "OPA's manifest": (
        packed({**GOOD, ".manifest": b'{"roots": [""]}'}),
        ".manifest: is not part of a rulebook",
    ),
    "an index of its own": (
        packed({**GOOD, "index/data.json": b"{}"}),
        "index/data.json: is not part of a rulebook",
    ),
}


@pytest.mark.parametrize(("content", "said"), ARCHIVES.values(), ids=ARCHIVES.keys())
async def test_what_is_packed_to_harm_is_refused(
    opa_binary: Path, tmp_path: Path, content: bytes, said: str
) -> None:
    found = await refusals(opa_binary, write(tmp_path / "r.tar.gz", content))

    assert any(said in line for line in found), found
    assert len(found) <= 101 and all("\n" not in line and "; " in line for line in found)


def module(*lines: str, path: str = MODULE) -> dict[str, bytes]:
    """A module whose first line is the third of its file."""
    return {path: "\n".join(["package agencies.ems", "", *lines, ""]).encode()}


def builtin(call: str) -> dict[str, bytes]:
    return module("x := 1", f'deny contains "no" if {call}')


def reaching(expression: str) -> dict[str, bytes]:
    return module("x := 1", f'deny contains "no" if {{ {expression} }}')


TOPICS = "data/topics/data.yaml"
ALIASES = b"a: &a [x]\nb: *a\n"
RULES: Mapping[str, tuple[dict[str, bytes], str]] = {
    "no UTF-8": ({MODULE: b'package agencies.ems\n\nx := "\xff"\n'}, f"{MODULE}:3: is not UTF-8"),
    **{
        f"a call of {call.partition('(')[0]}": (
            builtin(call),
            f"{MODULE}:4: undefined function {call.partition('(')[0]}",
        )
        for call in (
            'http.send({"method": "get", "url": "http://127.0.0.1"}).status_code == 200',
            "opa.runtime().env.HOME",
            "time.now_ns() > 0",
            'rand.intn("x", 7) > 3',
            'uuid.rfc4122("x") != ""',
            'net.lookup_ip_addr("localhost") != set()',
            'io.jwt.decode_verify("x", {})[0]',
            'crypto.x509.parse_and_verify_certificates("x")[0]',
            'trace("x")',
        )
    },
    "agreements of others": (
        reaching("data.data.agreements.transport"),
        f"{MODULE}:4: refers to data.data.agreements",
    ),
    "the index": (reaching("data.index.agreements"), f"{MODULE}:4: refers to data.index.agreements"),
    "any document": (reaching("data[input.item.topic]"), f"{MODULE}:4: refers to data.<computed>"),
    "any agency": (
        reaching("data.agencies[input.agency].x"),
        f"{MODULE}:4: refers to data.agencies.<computed>",
    ),
    "everything": (reaching("walk(data, [_, 1])"), f"{MODULE}:4: refers to data; an agency's module may"),
    "another agency's package": (
        {"agencies/ems/more.rego": b"\npackage agencies.transport\n"},
        "agencies/ems/more.rego:2: declares package agencies.transport, which belongs under agencies/transport/",
    ),
    "the exchange's package": (
        {"agencies/ems/more.rego": b"package entente.decision\n\n_verdict(_) := 1\n"},
        "agencies/ems/more.rego:1: declares package entente.decision, which belongs under entente/",
    ),
    "the guard's package": (
        {"entente/authz/authz.rego": b"package system.authz\n\nallow := true\n"},
        "entente/authz/authz.rego:1: declares package system.authz",
    ),
    "the index's place": (
        {"entente/x/x.rego": b"package index\n\nform := 2\n"},
        "entente/x/x.rego:1: declares package index",
    ),
    "a root of data twice": (
        {"data/data.yaml": b"topics: {}\n"},
        "data/data.yaml:1: is no place for data",
    ),
    "a key twice": ({TOPICS: POLICY[TOPICS] + b"crash-reports: {}\n"}, "key 'crash-reports' stands twice"),
    "aliases": ({TOPICS: ALIASES}, f"{TOPICS}:2: aliases are not allowed"),
    "brackets without end": ({TOPICS: b"a: " + b"[" * 1_000_000}, f"{TOPICS}:1: nested deeper than 32"),
    "a number without end": (
        {TOPICS: b"a: 1" + b":1" * 1_000_000},
        f"{TOPICS}:1: is a number that loses precision",
    ),
    "a million faults": (
        {"data/agreements/ems/data.yaml": b"".join(b"a%d: {}\n" % number for number in range(50_000))},
        "data/agreements/ems/data.yaml:1: a0.consumer: is missing",
    ),
    "more than is permitted": (
        {"capabilities.json": POLICY["capabilities.json"].replace(b'"name": "abs"', b'"name": "http.send"')},
        "capabilities.json: built-in 'http.send' is not permitted here",
    ),
    "a network": (
        {"capabilities.json": POLICY["capabilities.json"].replace(b'"allow_net": []', b'"allow_net": ["x"]')},
        "capabilities.json: allow_net must be an empty list",
    ),
    "a schema from elsewhere": (
        {"schemas/decision.schema.json": b'{"$ref": "file:///etc/passwd"}'},
        "schemas/decision.schema.json: Resource 'file:///etc/passwd'",
    ),
    "comprehensions within each other": (
        module(f"x := {'[y | y := ' * 30}1{']' * 30}"),
        f"{MODULE}:3: has more than 5 comprehensions",
    ),
    "hidden characters": (module("x := 1 # \u202e"), f"{MODULE}:3: holds the invisible character U+202E"),
    "a time that was not declared": (reaching("input.item.time > 1"), f"{MODULE}:4: refers to the time"),
}


@pytest.mark.parametrize(("changed", "said"), RULES.values(), ids=RULES.keys())
async def test_what_is_written_to_harm_is_refused_with_its_line(
    opa_binary: Path, tmp_path: Path, changed: dict[str, bytes], said: str
) -> None:
    archive = write(tmp_path / "r.tar.gz", packed({**GOOD, **changed}))
    found = await refusals(opa_binary, archive)

    assert any(said in line for line in found), found
    assert len(found) <= 101 and all("\n" not in line and "; " in line for line in found)


ENDLESS = "x := count({[a, b] | some a in numbers.range(1, 100000); some b in numbers.range(1, 100000)})"


async def test_rules_that_do_not_end_are_stopped_and_named(opa_binary: Path, tmp_path: Path) -> None:
    files = {**GOOD, **module(ENDLESS, "", 'deny contains "no" if x == -1')}
    engines = OpaTrials(opa_binary, TrialLimits(decision_s=0.5, profile_s=1.0))
    found = await refusals(opa_binary, write(tmp_path / "r.tar.gz", packed(files)), engines)

    assert any(line.startswith(f"{MODULE}:3: data.agencies.ems.x is too slow") for line in found), found
