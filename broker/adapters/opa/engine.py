"""The policy engine port on a supervised OPA child."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from broker.adapters.opa.answers import AnswerReader, compile_schema, revision_in
from broker.adapters.opa.bundle import PackedData, pack_data, rulebook_bundle
from broker.adapters.opa.child import Endpoint, OpaChild, OpaStartFailed
from broker.adapters.opa.client import AnswerTooLarge, SocketOpaClient
from broker.adapters.opa.settings import OpaSettings
from broker.errors import NoDecision
from broker.model.decision import Decision
from broker.model.rulebook import Revision
from broker.ports.policy_engine import Item

_UNANSWERED = (aiohttp.ClientError, TimeoutError, OSError, AnswerTooLarge, orjson.JSONDecodeError)


class OpaEngine:
    """Asks one revision, in one OPA child, through one reused connection pool."""

    def __init__(
        self, opa: Path, revision: Revision, settings: OpaSettings, data: PackedData | None = None
    ) -> None:
        self._revision = revision.id
        self._settings = settings
        self._input = compile_schema(revision, "input")
        self._reader = AnswerReader(revision)
        data = data or pack_data(revision)
        self._child = OpaChild(
            opa, rulebook_bundle(revision, data), settings.for_data(data.size_bytes), self._is_right
        )
        self._client: SocketOpaClient | None = None
        self._version = "opa"
        self._silent_since_s: float | None = None

    @classmethod
    async def start(cls, opa: Path, revision: Revision, settings: OpaSettings | None = None) -> OpaEngine:
        """A running engine that has answered for `revision` once.

        Raises RulebookRefused if the revision's schemas or data cannot be used, OpaStartFailed if OPA does not come up.
        """
        engine = await asyncio.to_thread(cls, opa, revision, settings or OpaSettings())
        await engine.open()
        return engine

    async def open(self) -> None:
        """Start OPA and wait until it has answered once. Raises OpaStartFailed."""
        await self._child.start()

    @property
    def revision(self) -> str:
        """The revision's id."""
        return self._revision

    @property
    def version(self) -> str:
        """For example "opa 1.22.2"."""
        return self._version

    @property
    def pid(self) -> int | None:
        """The process id of the running OPA, for operators and fault tests; None while it is down."""
        return self._child.pid

    @property
    def counters(self) -> Mapping[str, int]:
        """Restarts of OPA and malformed outputs since the start."""
        return {"engine_restarts": self._child.restarts, "engine_malformed": self._reader.malformed}

    async def decide(self, items: Sequence[Item]) -> Mapping[str, Decision]:
        """See the port. Items that the input schema refuses are never sent, and so have no decision.

        Raises ValueError for more items than one batch may hold or for an id used twice.
        """
        asked = {str(item.get("id")) for item in items}
        if len(items) > self._settings.batch_items or len(asked) != len(items):
            raise ValueError(f"a batch holds up to {self._settings.batch_items} items with different ids")
        well_formed = self._well_formed(items)
        if not well_formed:
            return {}
        return self.read(await self.ask(well_formed), asked)

    def read(self, document: object, asked: Collection[str]) -> Mapping[str, Decision]:
        """The well-formed decisions of an answer, by item id. Raises NoDecision if it is none of this revision."""
        return self._reader.read(document, asked)

    async def close(self) -> None:
        """Stop OPA; idempotent."""
        await self._child.close()
        client, self._client = self._client, None
        if client is not None:
            await client.close_connection()

    def _well_formed(self, items: Sequence[Item]) -> list[object]:
        """The items that the input schema allows. In OPA `"3" >= 5` is true, so types are checked before it sees them."""
        if self._input.is_valid({"items": list(items)}):
            return list(items)
        return [item for item in items if self._input.is_valid({"items": [item]})]

    async def ask(self, items: list[object], *, timed: bool = False) -> Any:
        """OPA's answer as it stands. Raises NoDecision."""
        endpoint = self._child.endpoint
        if endpoint is None:
            raise NoDecision("the policy engine is down; it is being restarted")
        client = await self._client_for(endpoint)
        try:
            async with asyncio.timeout(self._settings.deadline_s):
                document = await client.ask(items, timed=timed)
        except TimeoutError:
            self._note_silence()
            raise NoDecision(
                f"the policy engine gave no answer within {self._settings.deadline_s} s"
            ) from None
        except _UNANSWERED as error:
            raise NoDecision(f"the policy engine gave no answer: {type(error).__name__}") from None
        self._silent_since_s = None
        return document

    def _note_silence(self) -> None:
        """A deadline passed. One slow module does that too, but then others, and the decider's canary, are answered."""
        now_s = asyncio.get_running_loop().time()
        if self._silent_since_s is None:
            self._silent_since_s = now_s
        elif now_s - self._silent_since_s > self._settings.stuck_after_s:
            self._silent_since_s = None
            self._child.kill()

    async def _client_for(self, endpoint: Endpoint) -> SocketOpaClient:
        """The client of this run of OPA; the one of an earlier run is closed."""
        client = self._client
        if client is None or client.endpoint != endpoint:
            outdated, client = client, self._new_client(endpoint)
            await client._init_session()  # creates objects only, so nobody else runs in between
            self._client = client
            if outdated is not None:
                await outdated.close_connection()
        return client

    def _new_client(self, endpoint: Endpoint) -> SocketOpaClient:
        return SocketOpaClient(endpoint, self._settings.deadline_s, self._settings.answer_limit_bytes)

    async def _is_right(self, endpoint: Endpoint) -> bool:
        """Whether a fresh run answers; asked before it is given any question.

        Raises OpaStartFailed if it answers for anything else than this revision.
        """
        async with self._new_client(endpoint) as client:
            try:
                document = await client.ask([])
            except _UNANSWERED:
                return False
        if not isinstance(document, dict) or revision_in(document) != self._revision:
            raise OpaStartFailed("OPA serves another revision than it was started with")
        if document.get("result") != []:
            raise OpaStartFailed("data.entente.decision.decisions does not answer no items with no results")
        self._version = f"opa {document['provenance'].get('version', '')}".strip()
        return True
