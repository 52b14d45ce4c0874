"""Whether the rulebook could be changed again, tried with the real OPA on revisions that would lock somebody out."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.adapters.opa import OpaTrials
from broker.core.rulebook.findings import Severity
from broker.core.rulebook.load import read_rulebook, revision_of
from broker.core.rulebook.lockout import lockouts
from broker.core.rulebook.registry import parse_registry
from tests.fakes.rulebook import ROOT

pytestmark = pytest.mark.opa

POLICY = {
    path: content
    for path, content in read_rulebook(ROOT / "policy").files.items()
    if not path.endswith("_test.rego") and not path.startswith("cases/")
}
PRESENT = parse_registry(revision_of(POLICY))
EXCHANGE, EMS = (f"data/administrators/{name}/data.yaml" for name in ("exchange", "ems"))
COUNTS = "data/administration/data.yaml"


def _denying(agency: str) -> bytes:
    return f'package agencies.{agency}\n\ndeny contains "no" if input.item.action == "administer"\n'.encode()


async def found(opa: Path, edits: dict[str, bytes | None], *, first: bool = False) -> list[tuple[str, str]]:
    files = {path: content for path, content in {**POLICY, **edits}.items() if content is not None}
    revision = revision_of(files)
    trial = await OpaTrials(opa).start(revision)
    try:
        findings = await lockouts(trial, parse_registry(revision), None if first else PRESENT)
    finally:
        await trial.close()
    for finding in findings:
        assert (finding.severity is Severity.ERROR) == finding.what.startswith("nobody could change")
    return [(finding.file, finding.what) for finding in findings]


async def test_the_default_rulebook_locks_nobody_out(opa_binary: Path) -> None:
    assert await found(opa_binary, {}) == []
    assert await found(opa_binary, {}, first=True) == []


@pytest.mark.parametrize(
    ("edits", "why"),
    [
        ({EXCHANGE: None}, "there is no administrator"),
        ({EXCHANGE: b"[]\n"}, "there is no administrator"),
        ({EXCHANGE: b"[admin-1]\n"}, "admin-1 could not activate a change (approval-missing: exchange)"),
        ({COUNTS: None}, "could not activate a change (approval-missing: exchange)"),
        (
            {COUNTS: b"approvals: {exchange: 2, agency: 1}\nratify_hours: 24\n"},
            "could not activate a change (approval-missing: exchange)",
        ),
        (
            {
                "data/agencies/exchange/data.yaml": POLICY["data/agencies/exchange/data.yaml"].replace(
                    b", exchange-admin", b""
                )
            },
            "could not propose a change (not-entitled)",
        ),
        (
            {"agencies/exchange/module.rego": _denying("exchange")},
            "could not propose a change (exchange: no)",
        ),
        # Who is not an administrator yet may be misspelt.
        (
            {EXCHANGE: b"[admin-1, admni-3]\n"},
            "admin-1 could not activate a change (approval-missing: exchange)",
        ),
        ({EXCHANGE: b"[admin-3, admin-4]\n"}, "there is no administrator"),
    ],
    ids=str,
)
async def test_what_would_lock_the_exchange_out_is_an_error(
    opa_binary: Path, edits: dict[str, bytes | None], why: str
) -> None:
    told = [what for file, what in await found(opa_binary, edits) if file == EXCHANGE]
    assert len(told) == 1
    assert told[0].startswith("nobody could change what is exchange's: ")
    assert why in told[0]


async def test_administrators_of_the_exchange_are_replaced_one_after_the_other(opa_binary: Path) -> None:
    assert await found(opa_binary, {EXCHANGE: b"[admin-1, admin-2, admin-3]\n"}) == []
    assert await found(opa_binary, {EXCHANGE: b"[admin-3, admin-4]\n"}, first=True) == []


@pytest.mark.parametrize(
    ("edits", "why"),
    [
        ({EMS: None}, "could not activate a change (approval-missing: exchange)"),
        ({EMS: b"[]\n"}, "could not activate a change (approval-missing: exchange)"),
        (
            {COUNTS: b"approvals: {exchange: 1, agency: 3}\nratify_hours: 24\n"},
            "could not activate a change (approval-missing: ems)",
        ),
        (
            {
                "data/agencies/ems/data.yaml": POLICY["data/agencies/ems/data.yaml"].replace(
                    b"agency-admin, ", b""
                )
            },
            "could not activate a change (approval-missing: ems)",
        ),
        (
            {"agencies/ems/module.rego": _denying("ems")},
            "could not activate a change (approval-missing: ems)",
        ),
    ],
    ids=str,
)
async def test_what_would_lock_an_agency_out_is_an_error(
    opa_binary: Path, edits: dict[str, bytes | None], why: str
) -> None:
    told = dict(await found(opa_binary, edits))
    assert told[EMS].startswith("nobody could change what is ems's: ")
    assert why in told[EMS]
    assert EXCHANGE not in told


async def test_one_administrator_needs_the_exchange_and_is_warned(opa_binary: Path) -> None:
    assert await found(opa_binary, {EMS: b"[admin-9]\n"}) == [
        (EMS, "nobody could approve what ems proposes itself")
    ]


async def test_an_agency_that_leaves_or_never_had_administrators_is_not_tried(opa_binary: Path) -> None:
    gone = {path: None for path in POLICY if "/ems/" in path or path.startswith("data/agreements/")}
    assert await found(opa_binary, dict(gone)) == []
    files = {path: content for path, content in POLICY.items() if path != EMS}
    revision = revision_of(files)
    trial = await OpaTrials(opa_binary).start(revision)
    try:
        registry = parse_registry(revision)
        assert await lockouts(trial, registry, registry) == []
    finally:
        await trial.close()
