"""The process that examines proposals: whatever becomes of it, there is a result, and nothing of it is left."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from broker.app.examiner import ExaminerProcess
from broker.core.rulebook.load import revision_of
from broker.core.rulebook.scope import View
from tests.fakes.proposing import first_revision
from tests.services.processes import children

pytestmark = [pytest.mark.opa, pytest.mark.timeout(300)]
PRESENT = first_revision()
MODULE = "agencies/ems/module.rego"
CHANGED = revision_of({**PRESENT.files, MODULE: b"package agencies.ems\n\ndeny contains 1 if data.secret\n"})


async def ended(before: set[str]) -> None:
    """Return once no other process is left than these; the test's own time limit is the only one."""
    while not children() <= before:  # noqa: ASYNC110 - the kernel tells nobody
        await asyncio.sleep(0.01)


async def test_what_is_found_comes_back_with_its_place(opa_binary: Path) -> None:
    check = await ExaminerProcess(opa_binary).examine(PRESENT, CHANGED, "ems")
    assert not check.accepted
    (finding,) = View("ems").findings(check)
    assert (finding.file, finding.line) == (MODULE, 3)
    assert "refers to data.secret" in finding.what


@pytest.mark.parametrize(
    ("opa", "timeout_s", "what"),
    [(None, 0.05, "checking it takes longer than 0.05 s"), ("no-opa", 60.0, "could not check it")],
)
async def test_what_goes_wrong_is_a_finding_for_everybody(
    opa_binary: Path, tmp_path: Path, opa: str | None, timeout_s: float, what: str
) -> None:
    before = children()
    examiner = ExaminerProcess(opa_binary if opa is None else tmp_path / opa, timeout_s)
    check = await examiner.examine(PRESENT, CHANGED, None)
    assert not check.accepted
    for view in (View(), View("ems")):
        (finding,) = view.findings(check)
        assert finding.file == "rulebook"
        assert what in finding.what
        assert str(tmp_path) not in str(finding)
    await ended(before)


async def test_one_that_is_not_waited_for_ends(opa_binary: Path) -> None:
    before = children()
    examining = asyncio.ensure_future(ExaminerProcess(opa_binary).examine(PRESENT, CHANGED, None))
    while children() <= before and not examining.done():  # noqa: ASYNC110 - until the process has started
        await asyncio.sleep(0.01)
    examining.cancel()
    with pytest.raises(asyncio.CancelledError):
        await examining
    await ended(before)
