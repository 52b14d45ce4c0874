"""Replay by the real OPA: the recorded version under the recorded revision, or a plain word why not."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from broker.adapters.export.writer import ExportRequest, write_export
from broker.adapters.opa import OpaCompiler
from broker.app.replay import OpaEngines
from broker.app.rulebook_sources import DirectoryRulebooks, NoRulebooks
from broker.core.audit.replay import Replay
from broker.core.audit.replayed import ReplayFinding
from broker.core.decide.output import output_of
from broker.core.ledger.leaf import encode
from broker.core.rulebook.load import read_rulebook
from broker.errors import StorageUnavailable
from broker.model.ledger import EncodedEntry, JsonValue, LedgerEntry
from broker.model.rulebook import Rules
from tests.e2e.here import run_here
from tests.fakes.ledgers import FakeReader
from tests.fakes.rulebook import ROOT, scripted_rulebook

pytestmark = pytest.mark.opa

POLICY = ROOT / "policy"


def asked(number: int) -> dict[str, JsonValue]:
    """A different question for each number below 128, some of which are released."""
    purposes = ("emergency-response", "law-enforcement", "road-safety-statistics", "cyber-defence")
    labels: dict[str, JsonValue] = {
        "dataclassification": ("clear", "green", "amber", "red")[number % 4],
        "datacategory": "",
        "dataregulation": [],
        "purposes": [purpose for bit, purpose in enumerate(purposes) if number >> (2 + bit) & 1],
        "releasableto": ["ems"] if number & 64 else [],
    }
    markings: JsonValue = ["criminal", "identifier", "medical", "operational", "pii", "unreviewed"]
    record: JsonValue = {
        "type": "gov.niem.crash-driver.v1",
        "agency": "highway-patrol",
        "labels": labels,
        "markings": markings,
    }
    subject: JsonValue = {
        "agency": "ems",
        "roles": ["paramedic"],
        "attributes": {"clearance": "red"},
        "purpose": "emergency-response",
    }
    return {"action": "deliver", "subject": subject, "topic": "crash-reports", "record": record}


def entry(index: int, rules: Rules, decisions: Sequence[JsonValue]) -> EncodedEntry:
    """A refused call with these decisions."""
    who: JsonValue = {
        "agency": "ems",
        "subject": "medic-7",
        "roles": [],
        "attributes": {},
        "token": "t",
        "certificate": None,
    }
    body: dict[str, JsonValue] = {
        "who": who,
        "call": {"method": "Subscribe", "reason": "POLICY_DENIED", "reference": "r-1"},
        "rules": {"revision": rules.revision, "engine": rules.engine},
        "decisions": list(decisions),
    }
    return encode(LedgerEntry("call_refused", index, body), "broker", 1, index, bytes(32))


async def recorded(engines: OpaEngines, rules: Rules, count: int) -> list[JsonValue]:
    """What this engine decides, as the ledger has it."""
    engine = await engines.engine(rules)
    decisions = await engine.decide([{**asked(n), "id": str(n)} for n in range(count)])
    return [{"input": asked(n), "output": output_of(decisions[str(n)])} for n in range(count)]


async def replayed(run: Replay, told: Sequence[EncodedEntry]) -> list[ReplayFinding]:
    async def entries() -> AsyncIterator[tuple[str, Sequence[EncodedEntry]]]:
        for each in told:
            yield "broker", [each]

    return [finding async for finding in run.run(entries())]


@pytest.fixture
def rules(opa_binary: Path) -> Rules:
    """The default rulebook by the pinned OPA."""
    return Rules(read_rulebook(POLICY).id, f"opa {OpaCompiler(opa_binary).version()}")


@pytest.fixture
async def engines(opa_binary: Path) -> AsyncIterator[OpaEngines]:
    async with OpaEngines([opa_binary], DirectoryRulebooks(POLICY, NoRulebooks())) as opened:
        yield opened


async def test_real_decisions_agree_and_a_lie_is_found(engines: OpaEngines, rules: Rules) -> None:
    decisions = await recorded(engines, rules, 128)
    effects = {decision["output"]["effect"] for decision in decisions}  # type: ignore[index,call-overload]
    assert effects == {"release", "withhold"}
    told = [entry(n, rules, decisions[n : n + 8]) for n in range(0, 128, 4)]
    run = Replay(engines)
    assert await replayed(run, told) == []
    assert (run.tally.agree, run.tally.evaluated, run.tally.complete) == (32 * 8 - 4, 128, True)

    withheld = next(d for d in decisions if d["output"]["effect"] == "withhold")  # type: ignore[index,call-overload]
    lie = {"input": withheld["input"], "output": {**withheld["output"], "effect": "release"}}  # type: ignore[index,call-overload,dict-item]
    (found,) = await replayed(Replay(engines), [*told, entry(500, rules, [decisions[0], lie])])
    assert (found.index, found.number, found.recorded, found.replayed) == (
        500,
        1,
        lie["output"],
        withheld["output"],  # type: ignore[index,call-overload]
    )


async def test_an_opa_that_dies_is_asked_again(engines: OpaEngines, rules: Rules) -> None:
    decisions = await recorded(engines, rules, 4)
    engine = await engines.engine(rules)
    assert engine.pid is not None
    os.kill(engine.pid, signal.SIGKILL)
    run = Replay(engines)
    assert await replayed(run, [entry(0, rules, decisions)]) == []
    assert run.tally.agree == 4


async def test_another_version_is_named_and_nothing_is_skipped(engines: OpaEngines, rules: Rules) -> None:
    decisions = await recorded(engines, rules, 4)
    older = Rules(rules.revision, "opa 0.70.0")
    run = Replay(engines)
    assert await replayed(run, [entry(0, rules, decisions), entry(1, older, decisions)]) == []
    missing = run.tally.missing[older]
    assert missing.decisions == 4
    assert (
        missing.problem
        == f"needs opa 0.70.0, and there is {rules.engine}; name that version's binary with --opa"
    )
    assert (run.tally.agree, run.tally.complete) == (4, False)


async def test_a_missing_revision_is_named(engines: OpaEngines, rules: Rules) -> None:
    decisions = await recorded(engines, rules, 1)
    other = Rules("sha256:" + "0" * 64, rules.engine)
    run = Replay(engines)
    assert await replayed(run, [entry(0, other, decisions)]) == []
    assert run.tally.missing[other].problem.startswith("the revision is not here")


async def test_rules_that_reach_out_are_not_run(opa_binary: Path, rules: Rules, tmp_path: Path) -> None:
    """An auditor runs other people's rules: what the exchange's door refuses stays out here too."""
    hostile = scripted_rulebook(
        {},
        module=b"""package entente.decision

decisions := [item | some item in input.items; http.send({"method": "get", "url": "http://127.0.0.1:1/"})]
""",
    )
    for path, content in hostile.files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
    reaching = Rules(hostile.id, rules.engine)
    async with OpaEngines([opa_binary], DirectoryRulebooks(tmp_path, NoRulebooks())) as engines:
        run = Replay(engines)
        told = entry(0, reaching, [{"input": asked(0), "output": {"effect": "release"}}])
        assert await replayed(run, [told]) == []
    assert "does not pass the checks and is not run" in run.tally.missing[reaching].problem
    assert "http.send" in run.tally.missing[reaching].problem


async def test_a_binary_that_is_no_opa_is_named(rules: Rules, tmp_path: Path) -> None:
    (tmp_path / "opa").write_text("")
    (tmp_path / "opa").chmod(0o700)
    async with OpaEngines([tmp_path / "opa"], DirectoryRulebooks(POLICY, NoRulebooks())) as engines:
        run = Replay(engines)
        await replayed(run, [entry(0, rules, [{"input": asked(0), "output": {}}])])
    assert run.tally.missing[rules].problem.endswith("correct --opa")


async def test_several_revisions_are_run_by_turns(opa_binary: Path, rules: Rules, tmp_path: Path) -> None:
    """More revisions than engines at once: each is started again when it is needed."""
    ids = []
    for number in range(3):
        shutil.copytree(POLICY, tmp_path / f"r{number}")
        manifest = tmp_path / f"r{number}" / "manifest.yaml"
        manifest.write_text(manifest.read_text() + f"# {number}\n")
        ids.append(read_rulebook(tmp_path / f"r{number}").id)
    every = [Rules(revision, rules.engine) for revision in ids]
    async with OpaEngines([opa_binary], DirectoryRulebooks(tmp_path, NoRulebooks())) as engines:
        decisions = await recorded(engines, every[0], 6)
        told = [entry(n, every[n % 3], decisions[n // 3 : n // 3 + 1]) for n in range(12)]
        run = Replay(engines)
        assert await replayed(run, told) == []
        assert (run.tally.agree, run.tally.evaluated) == (12, 12)


async def test_a_directory_without_rulebooks_is_refused(tmp_path: Path) -> None:
    for directory in (tmp_path, tmp_path / "absent"):
        with pytest.raises(StorageUnavailable, match=str(directory)):
            await DirectoryRulebooks(directory, NoRulebooks()).get("sha256:0")


async def exported(directory: Path, told: Sequence[EncodedEntry]) -> Path:
    """An export of these entries and the default rulebook."""
    reader = FakeReader({"broker": list(told)}, {"broker": []})
    rulebooks = DirectoryRulebooks(POLICY, NoRulebooks())
    await write_export(ExportRequest(directory / "export", "exchange"), reader, rulebooks)
    return directory / "export"


@pytest.fixture
async def ledger_with_a_lie(engines: OpaEngines, rules: Rules, tmp_path: Path) -> Path:
    """An export whose second entry releases what the rules withhold, and is committed to like any other."""
    decisions = await recorded(engines, rules, 64)
    withheld = next(d for d in decisions if d["output"]["effect"] == "withhold")  # type: ignore[index,call-overload]
    lie: JsonValue = {"input": withheld["input"], "output": {**withheld["output"], "effect": "release"}}  # type: ignore[index,call-overload,dict-item]
    other = Rules(rules.revision, "opa 0.70.0")
    told = [entry(0, rules, decisions), entry(1, rules, [decisions[0], lie]), entry(2, other, decisions[:3])]
    return await exported(tmp_path, told)


async def test_the_command_tells_each_decision_that_does_not_agree(ledger_with_a_lie: Path) -> None:
    command = ("audit", "replay", "--ledger", ledger_with_a_lie)

    ran = await asyncio.to_thread(run_here, ledger_with_a_lie.parent, *command, "-o", "jsonl")
    assert ran.returncode == 7, ran
    found, counts = (json.loads(line) for line in ran.stdout.splitlines())
    assert (found["outcome"], found["instance"], found["index"], found["number"]) == (
        "differs",
        "broker",
        1,
        1,
    )
    assert (found["recorded"]["effect"], found["replayed"]["effect"]) == ("release", "withhold")
    assert (counts["agree"], counts["differ"], counts["decisions"]) == (65, 1, 69)
    assert [each["engine"] for each in counts["not_replayed"]] == ["opa 0.70.0"]
    assert ran.stderr.startswith("entente: 3 decisions under sha256:")

    whole = await asyncio.to_thread(run_here, ledger_with_a_lie.parent, *command, "-o", "json")
    assert json.loads(whole.stdout)["findings"] == [found]

    shown = await asyncio.to_thread(run_here, ledger_with_a_lie.parent, *command, "-o", "table")
    assert "broker/1 (call_refused) decisions[1]: the rules decide otherwise" in shown.stdout
    assert "needs opa 0.70.0" in shown.stdout
