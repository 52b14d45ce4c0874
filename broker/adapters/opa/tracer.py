"""The rules that decided, from OPA's own trace of one decision."""

from __future__ import annotations

import asyncio
import re
import tempfile
from pathlib import Path
from typing import Any

import orjson

from broker.adapters.opa.bundle import pack_data
from broker.adapters.opa.layout import BUNDLE, inside, lay_out
from broker.adapters.opa.one_shot import Done, OneShot, RunFailed
from broker.adapters.opa.settings import OpaSettings
from broker.errors import NoDecision, RulebookRefused
from broker.model.rulebook import Revision
from broker.ports.policy_engine import Item
from broker.ports.rule_tracer import RuleUse, Trace

_TIMEOUT_S = 30.0
_QUERY = "data.entente.decision.decisions"
_COMMAND = ["eval", "--bundle", BUNDLE, "--stdin-input", "--timeout", f"{_TIMEOUT_S}s"]
_EVENT = re.compile(
    rb"^(?P<file>/\S+\.rego):(?P<line>\d+) +(?:\| )+(?P<op>Exit|Eval) (?P<what>.*)$", re.MULTILINE
)
_RULE = re.compile(r"data\.([A-Za-z0-9_.]+)(?: early)?")
_ROOT = re.compile(r"\bdata\.data\.([a-z_]+)")


class OpaTracer:
    """Implements RuleTracer with runs of one binary."""

    def __init__(self, opa: Path) -> None:
        self._one_shot = OneShot(opa, OpaSettings())

    async def trace(self, revision: Revision, item: Item) -> Trace:
        """See the port."""
        asked = orjson.dumps({"items": [item]})
        with tempfile.TemporaryDirectory(prefix="entente-opa-") as name:
            directory = Path(name)
            try:
                data = await asyncio.to_thread(pack_data, revision)
                await asyncio.to_thread(lay_out, directory, revision, data)
                answer = await self._run(directory, asked, "--format", "raw")
                events = await self._run(directory, asked, "--format", "pretty", "--explain", "full")
            except (RunFailed, RulebookRefused) as failed:
                raise NoDecision(f"the decision cannot be made again: {failed}") from None
        rules, reads = await asyncio.to_thread(_read, events.output)  # which may be 16 MiB
        return Trace(_output(answer.output), rules, reads)

    async def _run(self, directory: Path, asked: bytes, *options: str) -> Done:
        arguments = [*_COMMAND, *options, _QUERY]
        done = await self._one_shot.run(directory, arguments, timeout_s=2 * _TIMEOUT_S, given=asked)
        if done.code != 0:
            raise RunFailed("OPA could not evaluate it; examine the rulebook")
        return done


def _output(answer: bytes) -> dict[str, object] | None:
    """The one decision, without its item's id."""
    try:
        decisions: Any = orjson.loads(answer)
    except orjson.JSONDecodeError:
        return None
    match decisions:
        case [dict(decision)]:
            return {name: value for name, value in decision.items() if name != "id"}
    return None


def _read(events: bytes) -> tuple[tuple[RuleUse, ...], tuple[str, ...]]:
    """A line of a trace names its place first, then bars as deep as it is, then what happened."""
    rules: dict[RuleUse, None] = {}
    reads: set[str] = set()
    for event in _EVENT.finditer(events):
        what = event["what"].decode(errors="replace").strip()
        if event["op"] == b"Eval":
            reads.update(_ROOT.findall(what))
        elif (rule := _RULE.fullmatch(what)) is not None:
            rules[RuleUse(inside(event["file"].decode()), int(event["line"]), rule[1])] = None
    return tuple(rules), tuple(sorted(reads))
