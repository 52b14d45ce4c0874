"""Reading a rulebook's directory: what belongs to the revision, what is refused, and what its id covers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.core.rulebook import load
from broker.core.rulebook.load import read_rulebook, revision_of
from broker.errors import RulebookRefused
from broker.model.rulebook import revision_id
from tests.fakes.rulebook import ROOT, scripted_rulebook

FILES = scripted_rulebook({}).files


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    for name, content in FILES.items():
        put(tmp_path, name, content)
    return tmp_path


def put(directory: Path, name: str, content: bytes = b"") -> None:
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def refusal(directory: Path) -> str:
    with pytest.raises(RulebookRefused) as refused:
        read_rulebook(directory)
    assert all("\n" not in finding and "; " in finding for finding in refused.value.findings)
    return "\n".join(refused.value.findings)


def test_the_revision_is_the_files_and_its_id_their_hash(directory: Path) -> None:
    revision = read_rulebook(directory)
    assert revision.files == FILES
    assert revision.id == revision_id(FILES) == scripted_rulebook({}).id
    assert revision.time_dependent is False


def test_what_lies_beside_the_rulebook_is_not_part_of_it(directory: Path) -> None:
    before = read_rulebook(directory).id
    put(directory, "README.md", b"read me")
    put(directory, ".regal/config.yaml", b"rules: {}")
    assert read_rulebook(directory).id == before


def test_cases_and_guarantees_are_part_of_it(directory: Path) -> None:
    ids = {read_rulebook(directory).id}
    for name in (
        "cases/ems.yaml",
        "cases/ems/ems.yaml",
        "agencies/ems/guarantees.yaml",
        "entente/guarantees.yaml",
    ):
        put(directory, name, b"{}")
        ids.add(read_rulebook(directory).id)
    assert len(ids) == 5


def test_the_manifest_says_whether_time_matters(directory: Path) -> None:
    put(directory, "manifest.yaml", b"time_dependent: true\n")
    assert read_rulebook(directory).time_dependent is True


@pytest.mark.parametrize(
    "manifest", [b"", b"[]", b"time_dependent: 1", b"time_dependent: true\nmore: 1", b"{", b"\xff"]
)
def test_any_other_manifest_is_refused(directory: Path, manifest: bytes) -> None:
    put(directory, "manifest.yaml", manifest)
    assert "manifest.yaml" in refusal(directory)


@pytest.mark.parametrize(
    "name",
    [
        "extra.yaml",
        "policies/x.rego",
        "entente/decision/data.yaml",
        "entente/decision/.hidden.rego",
        "agencies/ems/module.json",
        "agencies/EMS/module.rego",
        "data/topics/data.json",
        "data/topics/more.yaml",
        "data/a b/data.yaml",
        "keys/ems.pem",
        "schemas/note.txt",
        "cases/README.md",
        "cases/ems/more/ems.yaml",
        "guarantees.yaml",
        "agencies/guarantees.yaml",
        "agencies/ems/more/guarantees.yaml",
        "entente/decision/guarantees.yaml",
        "entente/a/b/c/d/e/f/g/h/i.rego",
        "entente/" + "x" * 101 + ".rego",
    ],
)
def test_what_is_no_part_of_a_rulebook_is_refused(directory: Path, name: str) -> None:
    put(directory, name)
    refused, _, _ = refusal(directory).partition(": ")
    assert refused == name or name.startswith(f"{refused}/")


@pytest.mark.parametrize("name", ["capabilities.json", "manifest.yaml", "schemas/decision.schema.json"])
def test_a_missing_part_is_named(directory: Path, name: str) -> None:
    (directory / name).unlink()
    assert f"{name}: is missing" in refusal(directory)


def test_links_and_special_files_are_refused(directory: Path) -> None:
    (directory / "agencies").mkdir()
    (directory / "agencies" / "ems").symlink_to("/etc")
    (directory / "entente" / "x.rego").symlink_to(directory / "entente/decision/decision.rego")
    os.mkfifo(directory / "entente" / "pipe.rego")
    said = refusal(directory)
    assert "agencies/ems: is a symbolic link" in said
    assert "entente/x.rego: is a symbolic link" in said
    assert "entente/pipe.rego: is no regular file" in said


def test_sizes_are_bounded(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(directory, "data/large/data.yaml", b"#" * 50_000)
    with monkeypatch.context() as patch:
        patch.setattr(load, "FILE_LIMITS_BYTES", {"data": 40_000})
        assert "data/large/data.yaml: is larger" in refusal(directory)
    with monkeypatch.context() as patch:
        patch.setattr(load, "TOTAL_LIMIT_BYTES", 40_000)
        assert "more than 40000 bytes" in refusal(directory)


def test_one_owner_cannot_crowd_a_rulebook(directory: Path) -> None:
    """Ten thousand files, each of which would be parsed; and ten thousand faults, which nobody would read."""
    many = {f"agencies/ems/m{number}.rego": b"" for number in range(10_000)}
    with pytest.raises(RulebookRefused) as refused:
        revision_of({**FILES, **many})
    assert refused.value.findings == ("agencies/ems: holds 10000 files, more than 100; join them",)

    with pytest.raises(RulebookRefused) as refused:
        revision_of({**FILES, **{f"agencies/ems/m{number}.txt": b"" for number in range(10_000)}})
    assert len(refused.value.findings) == load.FINDINGS_LIMIT + 1
    assert "9901 more" in refused.value.findings[-1]

    each_their_own = {f"agencies/a{number}/module.rego": b"" for number in range(1_000)}
    assert len(revision_of({**FILES, **each_their_own}).files) == len(FILES) + 1_000


def test_what_cannot_be_read_is_a_finding(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As by permissions, which do not bind the user that tests may run as."""
    put(directory, "agencies/ems/module.rego")
    blocked = directory / "agencies/ems/module.rego"
    original = Path.read_bytes

    def read(path: Path) -> bytes:
        if path == blocked:
            raise PermissionError(13, "Permission denied")
        return original(path)

    monkeypatch.setattr(Path, "read_bytes", read)
    assert "agencies/ems/module.rego: cannot be read (Permission denied)" in refusal(directory)


def test_no_directory_is_a_finding(tmp_path: Path) -> None:
    assert "is no directory" in refusal(tmp_path / "absent")


def test_files_from_elsewhere_are_checked_alike() -> None:
    with pytest.raises(RulebookRefused, match=r"\.\./x\.rego"):
        revision_of({**FILES, "entente/../x.rego": b""})


def test_the_default_rulebook_is_readable() -> None:
    assert read_rulebook(ROOT / "policy").time_dependent is False


PATHS = st.text(st.characters(codec="utf-8"), max_size=8)


@settings(max_examples=100)
@given(
    st.dictionaries(PATHS, st.binary(max_size=8), max_size=4),
    st.dictionaries(PATHS, st.binary(max_size=8), max_size=4),
)
def test_different_files_have_different_ids(one: dict[str, bytes], other: dict[str, bytes]) -> None:
    assert (revision_id(one) == revision_id(other)) == (one == other)


def test_no_boundary_between_files_can_be_moved() -> None:
    assert revision_id({"a": b"b", "c": b""}) != revision_id({"a": b"", "bc": b""})
    assert revision_id({"ab": b"c"}) != revision_id({"a": b"bc"})
