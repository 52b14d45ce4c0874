"""A revision on trial, on an OPA child of its own and single runs of `opa`."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from broker.adapters.opa.bundle import PackedData, pack_data
from broker.adapters.opa.child import OpaStartFailed
from broker.adapters.opa.engine import OpaEngine
from broker.adapters.opa.layout import BUNDLE, inside, lay_out
from broker.adapters.opa.one_shot import OneShot, RunFailed
from broker.adapters.opa.rego_tests import RegoTests
from broker.adapters.opa.settings import OpaSettings
from broker.errors import NoDecision, RulebookRefused
from broker.model.decision import Decision
from broker.model.rulebook import Revision
from broker.ports.policy_engine import Item
from broker.ports.rulebook_trial import Cost, Evaluation, RegoTest, TrialFailed

_PROFILE = "10"


@dataclass(frozen=True, slots=True)
class TrialLimits:
    """How long a trial may take.

    decision_s: for one question; far beyond what a good rulebook needs, however busy the machine is.
    profile_s: for the run that finds out where a slow decision spends its time.
    test_s, tests_s: for one Rego test, and for all of them.
    """

    decision_s: float = 5.0
    profile_s: float = 3.0
    test_s: float = 10.0
    tests_s: float = 300.0


class _AnyItem(OpaEngine):
    """Asks what no broker would ask: cases are about wrong input too, and rules have to withhold by themselves."""

    def _well_formed(self, items: Sequence[Item]) -> list[object]:
        return list(items)


class OpaTrial:
    """Implements RulebookTrial."""

    def __init__(
        self, opa: Path, revision: Revision, data: PackedData, engine: _AnyItem, limits: TrialLimits
    ) -> None:
        self._revision = revision
        self._data = data
        self._engine = engine
        self._limits = limits
        self._one_shot = OneShot(opa, OpaSettings().for_data(data.size_bytes))

    @property
    def pid(self) -> int | None:
        """The process id of its OPA, for benchmarks; None while it is down."""
        return self._engine.pid

    async def evaluate(self, item: Item) -> Evaluation:
        """See the port."""
        before_ns = self._used_ns()
        document = await self._engine.ask([item], timed=True)
        used_ns = self._used_ns() - before_ns
        decisions = self._engine.read(document, {str(item["id"])})
        metrics = document["metrics"]
        # OPA tells how long it was, of which others may have had the processor; its own share counts collecting too.
        duration_ns = min(int(metrics["timer_rego_query_eval_ns"]), used_ns)
        return Evaluation(decisions.get(str(item["id"])), duration_ns)

    async def decide(self, items: Sequence[Item]) -> Mapping[str, Decision]:
        """See the port."""
        return await self._engine.decide(items)

    async def profile(self, item: Item) -> Sequence[Cost]:
        """See the port."""
        with tempfile.TemporaryDirectory(prefix="entente-opa-") as name:
            directory = Path(name)
            await asyncio.to_thread(lay_out, directory, self._revision, self._data)
            arguments = ["eval", "--bundle", BUNDLE, "--stdin-input", "--format", "json", "--profile"]
            arguments += ["--profile-limit", _PROFILE, "--timeout", f"{self._limits.profile_s}s"]
            try:
                done = await self._one_shot.run(
                    directory,
                    [*arguments, "data.entente.decision.decisions"],
                    timeout_s=10 * self._limits.profile_s,
                    given=orjson.dumps({"items": [item]}),
                )
            except RunFailed:
                return ()
        return _costs(done.output)

    async def run_tests(self) -> Sequence[RegoTest]:
        """See the port."""
        await self._engine.close()  # the tests hold all of the data too
        tests = RegoTests(self._one_shot, self._revision, self._data, self._limits.test_s)
        try:
            async with asyncio.timeout(self._limits.tests_s):
                return await tests.run()
        except TimeoutError:
            raise TrialFailed(f"the Rego tests took longer than {self._limits.tests_s:g} s") from None
        except RunFailed as failed:
            raise TrialFailed(f"the Rego tests could not be run: {failed}") from None

    async def close(self) -> None:
        """See the port."""
        await self._engine.close()

    def _used_ns(self) -> int:
        """The processor time that OPA has had so far, in nanoseconds."""
        pid = self._engine.pid
        if pid is None:
            raise NoDecision("the policy engine is down")
        try:
            # The clock of another process, as clock_getcpuclockid(3) makes it from its id.
            return time.clock_gettime_ns((~pid << 3) | 2)
        except OSError:
            raise NoDecision("the policy engine is down") from None


@dataclass(frozen=True, slots=True)
class OpaTrials:
    """Implements TrialEngines with one binary."""

    opa: Path
    limits: TrialLimits = TrialLimits()

    async def start(self, revision: Revision) -> OpaTrial:
        """See the port."""
        # A module that takes too long is the revision's fault, not the engine's: nothing is started again for it.
        settings = OpaSettings(deadline_s=self.limits.decision_s, stuck_after_s=sys.maxsize)
        try:
            data = await asyncio.to_thread(pack_data, revision)
            engine = await asyncio.to_thread(_AnyItem, self.opa, revision, settings, data)
            await engine.open()
        except (OpaStartFailed, RulebookRefused) as error:
            raise TrialFailed(str(error)) from None
        return OpaTrial(self.opa, revision, data, engine, self.limits)


def _costs(output: bytes) -> list[Cost]:
    """Of OPA's profile, or of where it was when the time was over, which it names the innermost first."""
    try:
        document: dict[str, Any] = orjson.loads(output)
        profile = document.get("profile") or []
        return [
            Cost(inside(row["location"]["file"]), row["location"]["row"], row["total_time_ns"])
            for row in profile
            if row["location"]["file"]
        ]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return []
