"""What replaying costs, from an export: decisions that recur, as in a ledger's life, and decisions that are all different.

Run: `python -m benchmarks.replay [--opa PATH]`. Real decisions of the default rulebook, one OPA.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from benchmarks.decisions import ROOT, item
from broker.adapters.export.writer import ExportRequest, write_export
from broker.adapters.opa import OpaCompiler
from broker.app.ledger_sources import LedgerSource, opened_source
from broker.app.replay import OpaEngines
from broker.app.rulebook_sources import DirectoryRulebooks, NoRulebooks
from broker.core.audit.replay import Replay
from broker.core.audit.replayed import ReplayTally
from broker.core.decide.output import output_of
from broker.core.ledger.leaf import encode
from broker.core.rulebook.load import read_rulebook
from broker.model.ledger import (
    EncodedEntry,
    JsonValue,
    LedgerEntry,
    ReadEntries,
    ReadPoint,
    StoredCheckpoint,
)
from broker.model.rulebook import Rules

ASKED_AT_ONCE = 500
PAGE = 1_000
CLASSES = 8
PER_CLASS = 4_096


class MadeUp:
    """A LedgerReader on a list of entries of one instance."""

    def __init__(self, entries: Sequence[EncodedEntry]) -> None:
        self._entries = entries

    async def instances(self) -> Sequence[str]:
        return ["broker"]

    async def read(self, instance: str, point: ReadPoint) -> AsyncIterator[ReadEntries]:
        for at in range(point.store, len(self._entries), PAGE):
            page = tuple(self._entries[at : at + PAGE])
            yield ReadEntries(page, ReadPoint(at + len(page), 1, at + len(page)))

    async def checkpoints(self, instance: str) -> AsyncIterator[StoredCheckpoint]:
        for none in ():
            yield none

    async def close(self) -> None:
        return None


def asked(number: int) -> dict[str, JsonValue]:
    """A different question for each number below CLASSES * PER_CLASS."""
    question = dict(item(number % PER_CLASS))
    clearances = ("red", "amber", "green", "clear")
    attributes = {"clearance": clearances[number // PER_CLASS % 4]}
    roles = ["paramedic", "supervisor"][: 1 + number // PER_CLASS // 4 % 2]
    return {**question, "subject": {**question["subject"], "attributes": attributes, "roles": roles}}  # type: ignore[dict-item]


async def decisions(engines: OpaEngines, rules: Rules, count: int) -> list[JsonValue]:
    """As the ledger has them."""
    engine = await engines.engine(rules)
    made: list[JsonValue] = []
    for begin in range(0, count, ASKED_AT_ONCE):
        questions = [asked(number) for number in range(begin, min(begin + ASKED_AT_ONCE, count))]
        answers = await engine.decide([{**each, "id": str(n)} for n, each in enumerate(questions)])
        made += [{"input": each, "output": output_of(answers[str(n)])} for n, each in enumerate(questions)]
    return made


def entry(index: int, rules: Rules, decided: Sequence[JsonValue]) -> EncodedEntry:
    """A delivery of ten records to two receivers."""
    receivers: list[JsonValue] = [
        {
            "subject": f"s-{n}",
            "token": "t",
            "certificate": None,
            "subscription": "",
            "epoch": 0,
            "stream": "ab" * 8,
        }
        for n in range(2)
    ]
    standing: JsonValue = {"next": [index * 10], "lags": []}
    history: JsonValue = {"from": standing, "to": standing, "outcomes": {"release": 10}, "withheld": []}
    body: dict[str, JsonValue] = {
        "class": {"topic": "t", "agency": "ems", "roles": [], "attributes": {}, "purpose": "p"},
        "receivers": receivers,
        "count": 10,
        "digest": {"nonce": "AAAAAAAAAAAAAAAAAAAAAA==", "key": 0},
        "places": [[0, index * 10 + n, n % len(decided)] for n in range(10)],
        "decisions": list(decided),
        "considered": [history],
        "rules": {"revision": rules.revision, "engine": rules.engine},
    }
    made = LedgerEntry("delivery", index, body, {"handed_out": bytes(32)})
    return encode(made, "broker", 1, index, secrets.token_bytes(32))


async def replay(engines: OpaEngines, entries: Sequence[EncodedEntry]) -> ReplayTally:
    """From an export of these entries."""
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory) / "export"
        await write_export(ExportRequest(out, "benchmark"), MadeUp(entries), NoRulebooks())
        async with opened_source(LedgerSource(directory=out)) as opened:
            run = Replay(engines)
            parts = opened.reader.read("broker", ReadPoint())
            async for finding in run.run(("broker", part.entries) async for part in parts):
                raise AssertionError(finding)
    assert run.tally.agree == run.tally.decisions
    return run.tally


async def measure(opa: Path) -> None:
    """Print a line for each mix."""
    rulebook = ROOT / "policy"
    rules = Rules(read_rulebook(rulebook).id, f"opa {OpaCompiler(opa).version()}")
    mixes = (("recurring: 2,000 different of 100,000", 2_000, 25_000, 4), ("all different", 16_000, 4_000, 4))
    async with OpaEngines([opa], DirectoryRulebooks(rulebook, NoRulebooks())) as engines:
        for name, different, count, each in mixes:
            made = await decisions(engines, rules, different)
            places = [[(n * each + k) % different for k in range(each)] for n in range(count)]
            tally = await replay(
                engines, [entry(n, rules, [made[k] for k in ks]) for n, ks in enumerate(places)]
            )
            recorded, distinct = tally.decisions / tally.seconds, tally.evaluated / tally.seconds
            print(
                f"{name:40} {recorded:9.0f} recorded decisions/s  {distinct:7.0f} evaluated/s  {tally.seconds:5.1f} s"
            )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--opa", type=Path, default=ROOT / ".tools" / "bin" / "opa")
    asyncio.run(measure(parser.parse_args().opa))


if __name__ == "__main__":
    main()
