"""What the commands of the rulebook's life do by themselves: ids by their beginnings, and directories that they write."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from broker.cli.rulebook.proposed import change_lines, finding_lines, proposal_lines, short, whole
from broker.cli.rulebook.pull import _require_room, _write
from broker.core.rulebook.load import read_rulebook
from broker.model.rulebook import revision_id
from connectors.cli.failures import CommandFailed, ExitCode
from protos.entente.v1 import rulebook_pb2 as pb
from tests.fakes.rulebook import scripted_rulebook

ONE, OTHER = "sha256:" + "ab" * 32, "sha256:" + "ab" * 4 + "cd" * 28


def test_a_revision_is_known_by_a_beginning_that_no_other_has() -> None:
    assert whole(short(ONE), [ONE, OTHER, ONE]) == ONE
    assert whole(ONE, [ONE]) == ONE
    assert whole(ONE, []) == ONE, "the exchange says that it is not there"
    for prefix in ("sha256:ab", "ab" * 8, "", "sha256:" + "ab" * 4):
        with pytest.raises(CommandFailed) as failed:
            whole(prefix, [ONE, OTHER])
        assert failed.value.code is ExitCode.USAGE


def files(directory: Path) -> Mapping[str, bytes]:
    """What lies there, hidden files too."""
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def test_pulling_again_replaces_the_rulebook_and_nothing_else(tmp_path: Path) -> None:
    first = scripted_rulebook({"t": []}, **{"agencies/ems/module.rego": b"package agencies.ems\n"})
    newer = scripted_rulebook({"u": []}, **{"agencies/ems/more.rego": b"package agencies.ems\n"})
    beside = {".git/config": b"git", ".gitignore": b"x", "README.md": b"mine"}
    for path, content in beside.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(content)
    _write(tmp_path, first.files, replace=False)
    assert read_rulebook(tmp_path) == first
    _write(tmp_path, newer.files, replace=True)
    assert read_rulebook(tmp_path) == newer
    assert files(tmp_path) == {**newer.files, **beside}
    assert revision_id(newer.files) == newer.id


def test_a_directory_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    _require_room(tmp_path / "new", replace=False)
    _require_room(tmp_path, replace=False)
    (tmp_path / ".git").mkdir()
    _require_room(tmp_path, replace=False)
    (tmp_path / "letter.txt").write_text("dear")
    for replace in (False, True):
        with pytest.raises(CommandFailed):
            _require_room(tmp_path, replace=replace)
    (tmp_path / "manifest.yaml").write_text("time_dependent: false\n")
    with pytest.raises(CommandFailed, match="--replace"):
        _require_room(tmp_path, replace=False)
    _require_room(tmp_path, replace=True)
    with pytest.raises(CommandFailed, match=r"letter\.txt"):
        _write(tmp_path, {}, replace=True)
    with pytest.raises(CommandFailed):
        _require_room(tmp_path / "letter.txt", replace=True)


def test_what_others_wrote_cannot_reach_into_the_terminal() -> None:
    hostile = "a\x1b[2Jb\nc\u202e"
    finding = pb.RulebookFinding(severity="error", file=hostile, what=hostile, remedy=hostile)
    detail = pb.RulebookChangeDetail(key=hostile, before=hostile, after=hostile)
    change = pb.RulebookChange(kind=hostile, name=hostile, how=hostile, file=hostile, details=[detail])
    proposal = pb.Proposal(
        id="p",
        message=hostile,
        author=pb.Person(agency=hostile, subject=hostile),
        areas=[pb.RulebookArea(kind=hostile, owner=hostile)],
        missing=[hostile],
        rejection=pb.Rejection(reason=hostile),
        check=pb.RulebookCheck(findings=[finding]),
        changes=[change],
    )
    lines = [*finding_lines([finding]), *change_lines([change]), *proposal_lines(proposal)]
    assert lines
    assert all(line.isprintable() for line in lines)
