"""`entente rulebook`: what its commands print, and how they exit, on directories and archives."""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from broker.cli.app import run
from broker.core.rulebook.load import read_rulebook
from tests.fakes.rulebook import ROOT
from tests.services.opa import OPA

pytestmark = pytest.mark.opa

Entente = Callable[..., tuple[int, str, str]]
AGENCIES = sorted(path.name for path in (ROOT / "policy/data/agencies").iterdir())


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default rulebook with its keys, and with one case and few tests, since each check runs them all."""
    directory = tmp_path_factory.mktemp("rulebooks") / "rulebook"
    for name, content in read_rulebook(ROOT / "policy").files.items():
        kept = not name.endswith("_test.rego") or name.startswith("agencies/ems/")
        if kept and (not name.startswith("cases/") or name.endswith(("principals.yaml", "records.yaml"))):
            put(directory, name, content.decode())
    for agency in AGENCIES:
        put(directory, f"keys/{agency}.jwks.json", '{"keys": []}')
    put(directory, "cases/some.yaml", "- {who: officer, record: crash, effect: release}\n")
    put(directory, "entente/guarantees.yaml", "{}\n")
    put(directory, "agencies/ems/guarantees.yaml", "{}\n")
    put(directory, "agencies/highway-patrol/guarantees.yaml", GUARANTEE)
    return directory


@pytest.fixture
def rulebook(original: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(original, tmp_path / "rulebook"))


GUARANTEE = """
charges-stay-here:
  why: A charge is no conviction.
  side: owner
  subjects: {agencies: [transport]}
  records: {labels: {dataclassification: [amber]}}
  never_keep: [criminal]
"""


def put(directory: Path, name: str, text: str) -> None:
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def change(directory: Path, name: str, before: str, after: str) -> None:
    text = (directory / name).read_text()
    assert before in text
    (directory / name).write_text(text.replace(before, after))


@pytest.fixture
def entente(capsys: pytest.CaptureFixture[str], opa_binary: Path) -> Entente:
    def command(*arguments: object) -> tuple[int, str, str]:
        options = [] if arguments[0] == "new" else ["--opa", str(opa_binary)]
        code = run(["rulebook", *map(str, arguments), *options])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return command


def test_a_good_rulebook(rulebook: Path, entente: Entente) -> None:
    code, out, err = entente("check", rulebook, "-o", "table")
    assert (code, err) == (0, "")
    assert (
        out.startswith("good, with 0 warnings: ") and "1 case, 1 guarantee on" in out and out.count("\n") == 1
    )

    code, out, _ = entente("check", rulebook)
    found = json.loads(out)
    assert code == 0 and found["accepted"] is True and found["findings"] == []
    assert found["revision"] == read_rulebook(rulebook).id
    assert found["guarantees"][0]["holds"] and found["guarantees"][0]["combinations"] > 10
    assert found["slowest_decision"]["milliseconds"] > 0


def test_an_archive_is_checked_as_the_directory_is(rulebook: Path, entente: Entente, tmp_path: Path) -> None:
    archive = tmp_path / "rulebook.tar.gz"
    with tarfile.open(archive, "w:gz") as packed:
        packed.add(rulebook, arcname=".")

    code, out, _ = entente("check", archive)
    found = json.loads(out)
    assert code == 0 and found["accepted"] is True and found["findings"] == []
    assert found["revision"] == read_rulebook(rulebook).id
    assert found["guarantees"][0]["holds"] and found["guarantees"][0]["combinations"] > 10
    assert found["slowest_decision"]["milliseconds"] > 0
    assert entente("diff", rulebook, archive)[:2] == (0, "")


def test_findings_are_lines_that_editors_read(rulebook: Path, entente: Entente) -> None:
    change(rulebook, "agencies/ems/module.rego", '"CJIS")', "data.data.agreements)")
    change(rulebook, "data/agencies/ems/data.yaml", "emergency-response", "emergency")

    code, out, _ = entente("check", rulebook, "-o", "table")
    assert code == 1
    assert out.splitlines() == [
        "data/agencies/ems/data.yaml:7: error: purposes: 'emergency' is no purpose of the vocabulary; "
        "add it there or correct the name",
        "refused: 1 error, 0 warnings",
    ]

    change(rulebook, "data/agencies/ems/data.yaml", "emergency", "emergency-response")
    code, out, _ = entente("check", rulebook, "-o", "json")
    found = json.loads(out)
    assert code == 1 and found["accepted"] is False and found["tests"] == 0, "what does not pass is not run"
    assert {
        "severity": "error",
        "file": "agencies/ems/module.rego",
        "line": 17,
        "what": "refers to data.data.agreements",
        "remedy": "an agency's module may refer only to input, data.agencies.ems and data.entente.lib",
    } in found["findings"]


def test_a_file_that_is_no_part_of_a_rulebook(rulebook: Path, entente: Entente) -> None:
    put(rulebook, "notes/plan\x1b[2J.txt", "")
    code, out, _ = entente("check", rulebook, "-o", "table")
    assert code == 1 and "\x1b" not in out
    assert out.splitlines()[-1] == "refused: 1 error, 0 warnings"


def test_failures_are_shown_in_full(rulebook: Path, entente: Entente) -> None:
    change(
        rulebook,
        "data/agreements/highway-patrol/data.yaml",
        "criminal: {kind: mask}",
        "criminal: {kind: keep}",
    )
    put(
        rulebook,
        "cases/some.yaml",
        "- {who: statistician, record: crash, effect: release, treatments: {criminal: mask, pii: remove},\n"
        "   reasons: [owner]}\n",
    )
    put(rulebook, "agencies/ems/more_test.rego", REGO_TEST)

    code, out, _ = entente("test", rulebook, "-o", "table")
    lines = out.splitlines()
    assert code == 1
    assert lines[0] == "agencies/ems/more_test.rego:5: test data.agencies.ems.more_test.test_wrong"
    assert any(line.strip() == 'x == {"something"}' for line in lines) and any(
        line.strip() == "set()" for line in lines
    )
    assert not any("\\t" in line for line in lines)
    case = lines.index("cases/some.yaml:1: case statistician deliver crash")
    assert lines[case + 1 : case + 3] == [
        "    treatments.criminal: expected mask, got keep",
        "    treatments.identifier: expected not mentioned, got pseudonym",
    ]
    got = "agreement highway-patrol/transport-crash-statistics"
    assert f"    reasons: expected owner, got {got}" in lines
    assert any(line.startswith('    decided     {"effect":"release"') for line in lines)
    assert any(line.startswith('    asked       {"action":"deliver"') for line in lines)
    guarantee = lines.index("agencies/highway-patrol/guarantees.yaml:2: guarantee charges-stay-here")
    assert lines[guarantee + 1] == "    guaranteed  A charge is no conviction."
    assert lines[guarantee + 2].startswith(
        "    but         transport (analyst, clearance amber) for road-safety"
    )
    assert lines[-1].endswith("1 case, 1 guarantee: 3 failures")

    code, out, _ = entente("test", rulebook)
    found = json.loads(out)
    assert code == 1 and found["passed"] is False and found["errors"] == []
    assert [each["kind"] for each in found["failures"]] == ["test", "case", "guarantee"]
    assert found["failures"][1]["output"]["treatments"]["criminal"] == "keep"


REGO_TEST = """package agencies.ems.more_test

import data.agencies.ems

test_wrong if {
	x := ems.deny with input as {}
	x == {"something"}
}
"""


def test_a_test_run_without_failures(rulebook: Path, entente: Entente) -> None:
    code, out, _ = entente("test", rulebook, "-o", "table")
    assert code == 0 and out.endswith("1 case, 1 guarantee: all as expected\n")
    put(rulebook, "agencies/ems/more.rego", "package agencies.ems\n\nx := http.send({})\n")
    code, out, _ = entente("test", rulebook, "-o", "table")
    assert code == 1
    assert out.startswith("agencies/ems/more.rego:3: error: undefined function http.send; ")
    assert out.splitlines()[-1] == "nothing was run: 1 error"


def test_differences(rulebook: Path, entente: Entente, tmp_path: Path) -> None:
    proposed = tmp_path / "proposed"
    shutil.copytree(rulebook, proposed)
    assert entente("diff", rulebook, proposed) == (0, "", "")

    change(
        proposed,
        "data/agreements/highway-patrol/data.yaml",
        "criminal: {kind: mask}",
        "criminal: {kind: keep}",
    )
    change(proposed, "agencies/ems/module.rego", '"CJIS"', '"HIPAA"')
    put(proposed, "data/topics/data.yaml", (proposed / "data/topics/data.yaml").read_text() + "# a comment\n")
    code, out, _ = entente("diff", rulebook, proposed, "-o", "table")
    assert code == 1
    assert out.splitlines() == [
        "data/agreements/highway-patrol/data.yaml:18: agreement changed: highway-patrol/transport-crash-statistics",
        "    treatments.criminal.kind: mask → keep",
        "agencies/ems/module.rego:15: rule changed: data.agencies.ems.deny",
        "data/topics/data.yaml: comments or layout only",
    ]
    code, out, _ = entente("diff", rulebook, proposed, "-o", "json")
    changes: list[dict[str, Any]] = json.loads(out)
    assert code == 1 and [each["owner"] for each in changes] == ["highway-patrol", "ems", None]
    assert changes[0]["details"] == [{"key": "treatments.criminal.kind", "before": "mask", "after": "keep"}]


def test_a_new_agency_passes_the_check(rulebook: Path, entente: Entente) -> None:
    said = (
        "--role",
        "analyst",
        "--purpose",
        "road-safety-statistics",
        "--clearance",
        "amber",
        "--title",
        "Road: #1",
    )
    code, out, err = entente("new", "road-works", "--into", rulebook, *said, "-o", "table")
    assert (code, err) == (0, "")
    assert out.splitlines() == [str(rulebook / name) for name in NEW_FILES]
    assert json.loads(entente("new", "fire", "--into", rulebook)[1])["agency"] == "fire", (
        "nothing need be said"
    )

    code, out, _ = entente("check", rulebook)
    found = json.loads(out)
    assert code == 0 and found["findings"] == [], found["findings"]
    assert found["cases"] == 7 and found["tests"] > 8
    data = yaml.safe_load((rulebook / "data/agencies/road-works/data.yaml").read_text())
    assert data["issuers"] == [] and data["name"] == "Road: #1"


NEW_FILES = [
    "agencies/road-works/guarantees.yaml",
    "agencies/road-works/module.rego",
    "agencies/road-works/module_test.rego",
    "cases/road-works/principals.yaml",
    "cases/road-works/receiving.yaml",
    "data/administrators/road-works/data.yaml",
    "data/agencies/road-works/data.yaml",
]


def test_what_cannot_be_a_new_agency_is_a_usage_error(rulebook: Path, entente: Entente) -> None:
    before = read_rulebook(rulebook).id
    for arguments, said in (
        (("ems",), "'ems' is a registered agency already"),
        (("../x",), "'../x' is no name of an agency"),
        (("x", "--title", "two\nlines"), "the title must be 1 to 500 characters on one line"),
    ):
        code, out, err = entente("new", *arguments, "--into", rulebook)
        assert (code, out) == (2, "") and said in err and err.count("\n") == 1
    assert read_rulebook(rulebook).id == before


def test_nothing_is_overwritten(rulebook: Path, entente: Entente) -> None:
    put(rulebook, "agencies/x/module.rego", "package agencies.x\n")
    code, _, err = entente("new", "x", "--into", rulebook)
    assert code == 2 and "agencies/x/ holds files already" in err
    assert (rulebook / "agencies/x/module.rego").read_text() == "package agencies.x\n"


@pytest.mark.parametrize(
    "command", [("check",), ("test",), ("diff", "."), ("new", "x", "--into")], ids=lambda c: c[0]
)
def test_what_is_not_there_is_a_usage_error(
    command: tuple[str, ...], entente: Entente, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = entente(*command, "absent")
    assert (code, out) == (2, "") and "absent: no such directory or archive" in err


def test_what_cannot_be_compared_is_2(rulebook: Path, entente: Entente, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    code, out, err = entente("diff", rulebook, tmp_path / "other")
    assert (code, out) == (2, "") and "other: manifest.yaml: is missing" in err
    change(rulebook, "agencies/ems/module.rego", "deny contains", "deny contains contains")
    code, out, err = entente("diff", ROOT / "policy", rulebook)
    assert (code, out) == (2, "") and "agencies/ems/module.rego:1: is not valid Rego" in err


def test_without_opa_nothing_can_be_checked(
    rulebook: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert OPA.exists()
    other = tmp_path / "opa"
    other.write_text("#!/bin/sh\necho 'Version: 0.70.0'\n")
    other.chmod(0o755)
    for command in (
        ["check", str(rulebook)],
        ["test", str(rulebook)],
        ["diff", str(rulebook), str(rulebook)],
    ):
        assert run(["rulebook", *command, "--opa", str(other)]) == 2
        shown = capsys.readouterr()
        assert shown.out == "" and "is not OPA 1.22" in shown.err and shown.err.count("\n") == 1
