"""A policy engine that answers from a script, and can be told to fail."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import orjson

from broker.adapters.opa.answers import AnswerReader, compile_schema
from broker.errors import NoDecision
from broker.model.decision import Decision
from broker.model.rulebook import Revision
from broker.ports.policy_engine import Item
from tests.fakes.rulebook import WITHHOLD, Script, scripted_rulebook


class ScriptedEngine:
    """Answers by topic, as `tests/fakes/rulebook.py` says; what it was asked is in `batches`.

    down: every call has no decision. hold: calls wait until it is set. broken: topics whose items fail their batch.
    deadly: topics whose items end the engine: from then on it is down.
    """

    def __init__(self, script: Script, revision: Revision | None = None) -> None:
        self._script: Script = {"canary": [WITHHOLD], **script}
        revision = revision or scripted_rulebook(script)
        self._input = compile_schema(revision, "input")
        self._reader = AnswerReader(revision)
        self.revision = revision.id
        self.version = "scripted 1"
        self.batches: list[list[Item]] = []
        self.down = False
        self.hold: asyncio.Event | None = None
        self.broken: set[str] = set()
        self.deadly: set[str] = set()
        self.closed = False

    def answer(self, topic: str, outputs: Sequence[Mapping[str, object]]) -> None:
        """Change the script of one topic."""
        self._script = {**self._script, topic: outputs}

    async def decide(self, items: Sequence[Item]) -> Mapping[str, Decision]:
        if len({item.get("id") for item in items}) != len(items):
            raise ValueError("an id was used twice")
        self.batches.append(list(items))
        if self.hold is not None:
            await self.hold.wait()
        well_formed = [item for item in items if self._input.is_valid({"items": [item]})]
        self.down |= any(item["topic"] in self.deadly for item in well_formed)
        if self.down or self.closed or any(item["topic"] in self.broken for item in well_formed):
            raise NoDecision("scripted")
        outputs = [
            {**output, "id": item["id"]}
            for item in well_formed
            for output in self._script.get(str(item["topic"]), [])
        ]
        document = {
            "result": orjson.loads(orjson.dumps(outputs)),
            "provenance": {"bundles": {"rulebook.tar.gz": {"revision": self.revision}}},
        }
        return self._reader.read(document, {str(item["id"]) for item in well_formed})

    async def close(self) -> None:
        self.closed = True
