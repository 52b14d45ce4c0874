"""What `entente rulebook diff` tells: things of the rulebook, not lines of files; and nothing only for one revision."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from broker.core.rulebook.complexity import check_complexity
from broker.core.rulebook.difference import Change, How, compare
from broker.core.rulebook.load import read_rulebook, revision_of
from broker.errors import RulebookRefused
from tests.policy.engine import RULEBOOK, parse_module

pytestmark = pytest.mark.opa

KEYS = b'{"keys": [{"kty": "OKP", "kid": "a", "x": "1"}, {"kty": "OKP", "kid": "b", "x": "2"}]}'
FILES = {**read_rulebook(RULEBOOK).files, "keys/ems.jwks.json": KEYS}
Edit = Callable[[dict[str, bytes]], None]


@functools.cache
def parse(opa: Path, path: str, source: bytes) -> Mapping[str, object]:
    return parse_module(opa, path, source)


def difference(opa: Path, edit: Edit) -> tuple[Change, ...]:
    changed = dict(FILES)
    edit(changed)
    old, new = revision_of(FILES), revision_of(changed)
    found = compare(old, new, functools.partial(parse, opa))
    assert bool(found) == (old.id != new.id), "nothing exactly if they are one revision"
    back = compare(new, old, functools.partial(parse, opa))
    mirrored = {How.ADDED: How.REMOVED, How.REMOVED: How.ADDED, How.CHANGED: How.CHANGED}
    told = {(each.kind, each.name, mirrored[each.how]) for each in back}
    assert told == {(each.kind, each.name, each.how) for each in found}
    return found


def swap(path: str, before: str, after: str) -> Edit:
    def edit(files: dict[str, bytes]) -> None:
        assert before.encode() in files[path], (path, before)
        files[path] = files[path].replace(before.encode(), after.encode(), 1)

    return edit


def put(path: str, content: str) -> Edit:
    return lambda files: files.update({path: content.encode()})


def more(path: str, content: str) -> Edit:
    return lambda files: files.update({path: files[path] + content.encode()})


def drop(path: str) -> Edit:
    def edit(files: dict[str, bytes]) -> None:
        del files[path]

    return edit


PATROL = "data/agreements/highway-patrol/data.yaml"
EMS = "agencies/ems/module.rego"
SUBSCRIBING = '{"action": "subscribe", "effect": "release", "reasons": ["owner"], "topic": "crash-reports", "who": "%s"}'
# name: (edit, [(kind, name, how, owner, [(key, before, after)])])
CHANGES: dict[str, tuple[Edit, list[tuple[Any, ...]]]] = {
    "a treatment": (
        swap(PATROL, "criminal: {kind: mask}", "criminal: {kind: keep}"),
        [
            (
                "agreement",
                "highway-patrol/transport-crash-statistics",
                How.CHANGED,
                "highway-patrol",
                [("treatments.criminal.kind", "mask", "keep")],
            )
        ],
    ),
    "a new agency": (
        put("data/agencies/fire/data.yaml", "name: Fire"),
        [("agency", "fire", How.ADDED, None, [])],
    ),
    "an administrator more and one less": (
        swap("data/administrators/ems/data.yaml", "- admin-2", "- admin-3"),
        [
            (
                "administrators",
                "ems",
                How.CHANGED,
                None,
                [("value", "admin-2", None), ("value", None, "admin-3")],
            )
        ],
    ),
    "how many approve": (
        swap("data/administration/data.yaml", "exchange: 1", "exchange: 2"),
        [
            (
                "administration",
                "data/administration/data.yaml",
                How.CHANGED,
                None,
                [("approvals.exchange", "1", "2")],
            )
        ],
    ),
    "an agency that left": (drop("data/agencies/ems/data.yaml"), [("agency", "ems", How.REMOVED, None, [])]),
    "a role more and one less": (
        swap(
            "data/agencies/ems/data.yaml",
            "[agency-admin, paramedic, volunteer]",
            "[volunteer, agency-admin, analyst]",
        ),
        [("agency", "ems", How.CHANGED, None, [("roles", "paramedic", None), ("roles", None, "analyst")])],
    ),
    "an issuer's keys elsewhere": (
        swap("data/agencies/ems/data.yaml", "keys/ems.jwks.json", "keys/ems-2.jwks.json"),
        [
            (
                "agency",
                "ems",
                How.CHANGED,
                None,
                [
                    (
                        "issuers",
                        '{"issuer": "https://ems.example/issuer", "jwks_file": "keys/ems.jwks.json"}',
                        None,
                    ),
                    (
                        "issuers",
                        None,
                        '{"issuer": "https://ems.example/issuer", "jwks_file": "keys/ems-2.jwks.json"}',
                    ),
                ],
            )
        ],
    ),
    "a topic": (
        swap("data/topics/data.yaml", "retention_s: 31536000", "retention_s: null"),
        [("topic", "threat-intelligence", How.CHANGED, None, [("retention_s", "31536000", "null")])],
    ),
    "a field's marking": (
        swap("data/record_types/cyber-centre/data.yaml", '"$.notes": [technical]', '"$.notes": [public]'),
        [
            (
                "record type",
                "cyber-centre/gov.cisa.kev.v1",
                How.CHANGED,
                "cyber-centre",
                [("fields.$.notes", "technical", None), ("fields.$.notes", None, "public")],
            )
        ],
    ),
    "the order of classifications": (
        swap("data/vocabulary/data.yaml", "[clear, green, ", "[green, clear, "),
        [
            (
                "vocabulary",
                "data/vocabulary/data.yaml",
                How.CHANGED,
                None,
                [
                    (
                        "classifications",
                        '["clear", "green", "amber", "amber+strict", "red"]',
                        '["green", "clear", "amber", "amber+strict", "red"]',
                    )
                ],
            )
        ],
    ),
    "the order of anything else": (
        swap("data/vocabulary/data.yaml", "[CJIS, GDPR, HIPAA]", "[HIPAA, CJIS, GDPR]"),
        [("text", "data/vocabulary/data.yaml", How.CHANGED, None, [])],
    ),
    "a number as a text": (
        swap("data/topics/data.yaml", "partitions: 1", 'partitions: "1"'),
        [("topic", "threat-intelligence", How.CHANGED, None, [("partitions", "1", "1")])],
    ),
    "a comment in data": (
        more(PATROL, "# a comment\n"),
        [("text", PATROL, How.CHANGED, "highway-patrol", [])],
    ),
    "a key": (
        put(
            "keys/ems.jwks.json",
            '{"keys": [{"kty": "OKP", "kid": "b", "x": "3"}, {"kty": "OKP", "kid": "c", "x": "4"}]}',
        ),
        [
            ("key", "ems.jwks.json a", How.REMOVED, None, []),
            ("key", "ems.jwks.json b", How.CHANGED, None, []),
            ("key", "ems.jwks.json c", How.ADDED, None, []),
        ],
    ),
    "a condition of a rule": (
        swap(EMS, '"CJIS"', '"HIPAA"'),
        [("rule", "data.agencies.ems.deny", How.CHANGED, "ems", [])],
    ),
    "a rule more of a name": (
        more(EMS, '\ndeny contains "no" if input.side == "nobody"\n'),
        [("rule", "data.agencies.ems.deny", How.CHANGED, "ems", [("rules of this name", "1", "2")])],
    ),
    "a rule more of a name in another file": (
        put(
            "agencies/ems/extra.rego",
            'package agencies.ems\n\ndeny contains "no" if input.side == "nobody"\n',
        ),
        [
            ("rule", "data.agencies.ems.deny", How.CHANGED, "ems", [("rules of this name", "1", "2")]),
        ],
    ),
    "a rule of a new name": (
        more("entente/lib/lib.rego", "\ndefault never(_) := false\n"),
        [("rule", "data.entente.lib.never", How.ADDED, None, [])],
    ),
    "a module that left": (
        drop(EMS),
        [
            ("rule", "data.agencies.ems.deny", How.REMOVED, "ems", []),
            ("rule", "data.agencies.ems.redact", How.REMOVED, "ems", []),
        ],
    ),
    "a test": (
        more("agencies/ems/module_test.rego", "\ntest_more if true\n"),
        [("Rego test", "data.agencies.ems.module_test.test_more", How.ADDED, "ems", [])],
    ),
    "an import": (
        swap(EMS, "import data.entente.lib", "import data.agencies.ems.lib"),
        [
            (
                "module",
                EMS,
                How.CHANGED,
                "ems",
                [("import", "data.entente.lib", None), ("import", None, "data.agencies.ems.lib")],
            )
        ],
    ),
    "what is said about a rule": (
        swap(EMS, "# description: Volunteers work", "# description: All work"),
        [
            (
                "rule",
                "data.agencies.ems.redact",
                How.CHANGED,
                "ems",
                [("metadata", "otherwise", "as written there")],
            )
        ],
    ),
    "a comment in a module": (more(EMS, "# a comment\n"), [("text", EMS, How.CHANGED, "ems", [])]),
    "layout of a module": (
        swap(EMS, "\n\nimport", "\n\n\n\nimport"),
        [("text", EMS, How.CHANGED, "ems", [])],
    ),
    "a case": (
        swap(
            "cases/subscribing.yaml",
            "who: officer, topic: crash-reports",
            "who: volunteer, topic: crash-reports",
        ),
        [
            (
                "case",
                SUBSCRIBING % "officer",
                How.REMOVED,
                None,
                [],
            ),
            (
                "case",
                SUBSCRIBING % "volunteer",
                How.ADDED,
                None,
                [],
            ),
        ],
    ),
    "an agency's case": (
        put("cases/ems/own.yaml", "- {who: paramedic, record: crash, effect: release}"),
        [("case", '{"effect": "release", "record": "crash", "who": "paramedic"}', How.ADDED, "ems", [])],
    ),
    "a guarantee that goes": (
        drop("agencies/ems/guarantees.yaml"),
        [
            ("guarantee", "ems/no-cjis-records", How.REMOVED, "ems", []),
            ("guarantee", "ems/volunteers-see-no-licence-numbers", How.REMOVED, "ems", []),
        ],
    ),
    "a guarantee that is weaker": (
        swap("entente/guarantees.yaml", "[amber, amber+strict, red]", "[amber+strict, red]"),
        [
            (
                "guarantee",
                "partners-receive-nothing-above-green",
                How.CHANGED,
                None,
                [("records.labels.dataclassification", "amber", None)],
            )
        ],
    ),
    "a principal of cases": (
        swap("cases/principals.yaml", "clearance: amber", "clearance: green"),
        [("principal of cases", "statistician", How.CHANGED, None, [("clearance", "amber", "green")])],
    ),
    "the manifest": (
        put("manifest.yaml", "time_dependent: true"),
        [("manifest", "manifest.yaml", How.CHANGED, None, [("time_dependent", "false", "true")])],
    ),
    "a built-in": (
        swap("capabilities.json", '"name": "abs"', '"name": "ceil"'),
        [("built-ins", "capabilities.json", How.CHANGED, None, [("builtins", "abs", None)])],
    ),
    "a schema": (
        swap("schemas/decision.schema.json", "draft-07", "draft-06"),
        [
            (
                "schema",
                "schemas/decision.schema.json",
                How.CHANGED,
                None,
                [
                    (
                        "$schema",
                        "http://json-schema.org/draft-07/schema#",
                        "http://json-schema.org/draft-06/schema#",
                    )
                ],
            )
        ],
    ),
}


@pytest.mark.parametrize(("edit", "expected"), CHANGES.values(), ids=CHANGES.keys())
def test_what_is_different_is_told_in_the_rulebook_s_words(
    opa_binary: Path, edit: Edit, expected: list[tuple[Any, ...]]
) -> None:
    found = [
        (
            each.kind,
            each.name,
            each.how,
            each.owner,
            [(one.key, one.before, one.after) for one in each.details],
        )
        for each in difference(opa_binary, edit)
    ]
    assert sorted(found, key=str) == sorted(expected, key=str)


def test_one_revision_has_no_differences(opa_binary: Path) -> None:
    assert difference(opa_binary, lambda files: None) == ()


def test_places_are_those_of_the_newer_rulebook(opa_binary: Path) -> None:
    moved = "\n# a comment\n"
    (agreement,) = difference(
        opa_binary,
        lambda files: (
            files.update({PATROL: moved.encode() + files[PATROL]}),
            swap(PATROL, "criminal: {kind: mask}", "criminal: {kind: keep}")(files),
        )[1],
    )
    lines = (moved + FILES[PATROL].decode()).splitlines()
    assert lines[(agreement.line or 0) - 1] == "transport-crash-statistics:"
    (rule,) = difference(opa_binary, swap(EMS, '"CJIS"', '"HIPAA"'))
    assert FILES[EMS].decode().splitlines()[(rule.line or 0) - 1].startswith("deny contains")


def nested_keys(levels: int) -> str:
    return '{"keys": [{"kid": "a", "x": ' + "[" * levels + "]" * levels + "}]}"


def test_what_is_nested_as_deep_as_it_may_be_is_compared(opa_binary: Path) -> None:
    """Whoever has to approve it could not look at it otherwise."""
    key, *_ = difference(opa_binary, put("keys/ems.jwks.json", nested_keys(200)))
    assert key.kind == "key"
    source = f"package agencies.ems\n\nx := {' + '.join(['1'] * 280)}\n"
    assert (
        check_complexity({"agencies/ems/sum.rego": source.encode()}, functools.partial(parse, opa_binary))
        == []
    )
    (rule,) = difference(opa_binary, put("agencies/ems/sum.rego", source))
    assert (rule.kind, rule.name) == ("rule", "data.agencies.ems.x")


@pytest.mark.parametrize("content", ["[]", '{"builtins": 1}', '{"builtins": ["abs", {}]}'])
def test_built_ins_that_opa_does_not_read_are_compared_as_they_are(opa_binary: Path, content: str) -> None:
    (change,) = difference(opa_binary, put("capabilities.json", content))
    assert (change.kind, change.how) == ("built-ins", How.CHANGED) and change.details


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (put(PATROL, "x: 1\nx: 2\n"), f"{PATROL}: line 2: key 'x' stands twice"),
        (put(EMS, "package agencies.ems\ndeny if {"), f"{EMS}:1: is not valid Rego"),
        (put("schemas/decision.schema.json", "{"), "schemas/decision.schema.json: is not JSON"),
        (put("keys/ems.jwks.json", nested_keys(300)), "keys/ems.jwks.json: is nested too deeply"),
    ],
)
def test_what_cannot_be_read_cannot_be_compared(opa_binary: Path, edit: Edit, said: str) -> None:
    with pytest.raises(RulebookRefused, match="; ") as refused:
        difference(opa_binary, edit)
    assert refused.value.findings[0].startswith(said)


def test_a_difference_is_bounded(opa_binary: Path) -> None:
    many = "x:\n" + "".join(f"  key{number}: {number}\n" for number in range(1000))
    one = revision_of({**FILES, "data/topics/data.yaml": many.encode()})
    other = revision_of({**FILES, "data/topics/data.yaml": many.replace(": ", ": 1").encode()})
    (change,) = compare(one, other, functools.partial(parse, opa_binary))
    assert len(change.details) == 51 and change.details[-1].key == "950 more"
