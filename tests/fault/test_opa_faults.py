"""OPA killed, stalled, exhausted, or answering what it should not: no decision, never a wrong one, and back afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest

from broker.adapters.clock import SystemClock
from broker.adapters.opa import OpaEngine, OpaSettings, OpaStartFailed
from broker.adapters.opa.child import Endpoint, OpaProcess
from broker.core.decide import Decider, DeciderLimits, Question, make_question
from broker.errors import NoDecision
from broker.model.decision import Decision
from tests.fakes.rulebook import ROOT, item, output, scripted_rulebook

pytestmark = pytest.mark.opa
REVISION = scripted_rulebook({"open": [output(effect="release")]})

Start = Callable[..., Awaitable[OpaEngine]]


@pytest.fixture
async def start(opa_binary: Path) -> AsyncIterator[Start]:
    started: list[OpaEngine] = []

    async def build(revision: Any = REVISION, **settings: Any) -> OpaEngine:
        started.append(await OpaEngine.start(opa_binary, revision, OpaSettings(**settings)))
        return started[-1]

    yield build
    for engine in started:
        await engine.close()


async def eventually(ask: Callable[[], Awaitable[bool]]) -> None:
    """Ask until it is so; the test's own timeout is the bound."""
    while not await ask():  # noqa: ASYNC110 -- what is waited for happens in another process
        await asyncio.sleep(0.01)


async def answers(engine: OpaEngine) -> bool:
    try:
        return (await engine.decide([item("1", "open")])).keys() == {"1"}
    except NoDecision:
        return False


async def test_killed_it_starts_again_and_answers_for_the_same_revision(start: Start) -> None:
    engine = await start(restart_first_s=1.0)
    first = engine.pid
    assert first is not None and await answers(engine)
    os.kill(first, signal.SIGKILL)
    await eventually(lambda: is_gone(first))
    with pytest.raises(NoDecision):
        await engine.decide([item("1", "open")])
    await eventually(lambda: answers(engine))
    assert engine.pid != first
    assert engine.revision == REVISION.id
    assert engine.counters["engine_restarts"] == 1


async def test_killed_again_and_again_it_comes_back_each_time(start: Start) -> None:
    engine = await start(restart_most_s=0.2)
    for _ in range(3):
        pid = engine.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await eventually(lambda: answers(engine))
    assert engine.counters["engine_restarts"] == 3


async def test_stopped_it_gives_no_decision_in_time_and_resumes(start: Start) -> None:
    engine = await start(deadline_s=0.3)
    pid = engine.pid
    assert pid is not None
    await stop(pid)
    with pytest.raises(NoDecision, match="within"):
        await engine.decide([item("1", "open")])
    os.kill(pid, signal.SIGCONT)
    await eventually(lambda: answers(engine))
    assert engine.pid == pid


async def test_stuck_for_too_long_it_is_replaced(start: Start) -> None:
    engine = await start(deadline_s=0.2, stuck_after_s=0.3)
    pid = engine.pid
    assert pid is not None
    await stop(pid)
    await eventually(lambda: answers(engine))
    assert engine.pid != pid


async def test_a_restart_that_fails_is_tried_again(start: Start, tmp_path: Path) -> None:
    engine = await start(restart_most_s=0.1)
    opa, engine._child._opa = engine._child._opa, tmp_path / "absent"
    pid = engine.pid
    assert pid is not None
    tries: list[object] = []
    launch = engine._child._launch

    async def counted() -> OpaProcess:
        tries.append(None)
        return await launch()

    engine._child._launch = counted  # type: ignore[method-assign]
    os.kill(pid, signal.SIGKILL)

    async def tried_twice() -> bool:
        return len(tries) >= 2

    await eventually(tried_twice)
    engine._child._opa = opa
    await eventually(lambda: answers(engine))


async def test_an_opa_that_never_answers_does_not_start(tmp_path: Path) -> None:
    silent = tmp_path / "opa"
    silent.write_text("#!/bin/sh\necho loading\nexec sleep 600\n")
    silent.chmod(0o755)
    # long enough for a shell to speak on a machine where everything else runs too
    with pytest.raises(OpaStartFailed, match="no right answer within 5 s: loading"):
        await OpaEngine.start(silent, REVISION, OpaSettings(start_timeout_s=5))


async def test_a_temporary_directory_with_too_long_a_name_is_said(
    opa_binary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with pytest.raises(OpaStartFailed, match="set TMPDIR to a shorter path"):
        await OpaEngine.start(opa_binary, REVISION)
    assert not list(long.iterdir())


async def test_closing_a_stopped_engine_leaves_nothing_behind(start: Start) -> None:
    engine = await start()
    pid = engine.pid
    assert pid is not None
    await stop(pid)
    await engine.close()
    assert not is_alive(pid)
    with pytest.raises(NoDecision):
        await engine.decide([item("1", "open")])


async def test_it_does_not_outlive_a_broker_killed_with_kill_9(opa_binary: Path) -> None:
    broker = """
        import asyncio, sys
        from pathlib import Path
        from broker.adapters.opa import OpaEngine
        from tests.fakes.rulebook import scripted_rulebook

        async def main():
            engine = await OpaEngine.start(Path(sys.argv[1]), scripted_rulebook({}))
            print(engine.pid, flush=True)
            await asyncio.Event().wait()

        asyncio.run(main())
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", textwrap.dedent(broker), str(opa_binary), cwd=ROOT, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    pid = int(await process.stdout.readline())
    assert is_alive(pid)
    process.kill()
    await process.wait()
    await eventually(lambda: is_gone(pid))


async def stop(pid: int) -> None:
    """Stop a process, and wait until each of its threads stands still."""
    os.kill(pid, signal.SIGSTOP)

    async def stands_still() -> bool:
        return _thread_states(pid) == {"T"}

    await eventually(stands_still)


async def is_gone(pid: int) -> bool:
    return not is_alive(pid)


def is_alive(pid: int) -> bool:
    """Whether the process runs; one that only waits to be reaped does not."""
    try:
        return _state(Path(f"/proc/{pid}/stat")) != "Z"
    except FileNotFoundError:
        return False


def _thread_states(pid: int) -> set[str]:
    return {_state(task / "stat") for task in Path(f"/proc/{pid}/task").iterdir()}


def _state(stat: Path) -> str:
    """The state of a process or thread, proc(5)."""
    return stat.read_text().rpartition(")")[2].split()[0]


# What one item's module can do to an engine that others need too.

HOSTILE = b"""package entente.decision

decisions := [_output(item) | some item in input.items]

_output(item) := {"id": item.id, "effect": "release", "treatments": {}, "obligations": [], "reasons": []} if {
	not _costly(item)
	not item.topic == "conflict"
}

_output(item) := {"id": item.id, "effect": x, "treatments": {}, "obligations": [], "reasons": []} if {
	item.topic == "conflict"
	some x in ["release", "withhold"]
}

_output(item) := {"id": item.id, "effect": "release", "treatments": {}, "obligations": [], "reasons": [x]} if {
	_costly(item)
	many := numbers.range(1, 100000)
	x := sprintf("%d", [count([[a, b] | some a in many; some b in many])])
}

_costly(item) if item.topic == "costly"
"""


def question(topic: str, owner: str, label: str = "") -> Question:
    whole = item("", topic)
    del whole["id"]
    record: Any = whole["record"]
    return make_question(
        whole | {"record": record | {"labels": record["labels"] | {"datacategory": label}}}, owner
    )


@contextlib.asynccontextmanager
async def deciding(engine: OpaEngine, **limits: Any) -> AsyncIterator[Decider]:
    decider = Decider(engine, SystemClock(), time_dependent=False, limits=DeciderLimits(**limits))
    try:
        yield decider
    finally:
        await decider.close()


async def test_a_slow_module_holds_up_its_owner_only_and_ends_as_a_fault(start: Start) -> None:
    engine = await start(scripted_rulebook({}, HOSTILE), deadline_s=0.5)
    async with deciding(engine, wait_s=0.1, rest_s=0.0) as decider:
        assert await decider.decide([question("costly", "slow")]) == [None]
        others = [question("open", "quick", str(n)) for n in range(20)]
        await eventually(lambda: all_released(decider, others))
        assert decider.counters.get("engine_faults", 0) == 0, (
            "the slow owner's first failure is not settled yet"
        )

        async def withheld() -> bool:
            decision = (await decider.decide([question("costly", "slow")]))[0]
            return decision is not None and decision.reasons == ("engine_fault",)

        await eventually(withheld)
    assert engine.counters["engine_restarts"] == 0


async def test_a_contradiction_in_one_item_costs_only_that_item(start: Start) -> None:
    engine = await start(scripted_rulebook({}, HOSTILE), deadline_s=10)
    asked = [question("conflict" if n == 5 else "open", "ems", str(n)) for n in range(16)]
    async with deciding(engine, wait_s=30) as decider:
        decisions = await decider.decide(asked)
    assert [number for number, decision in enumerate(decisions) if decision is None] == [5]


async def test_a_module_that_eats_all_memory_ends_one_run_of_opa(start: Start) -> None:
    engine = await start(scripted_rulebook({}, HOSTILE), deadline_s=60, memory_limit_bytes=400 * 1024 * 1024)
    with pytest.raises(NoDecision):
        await engine.decide([item("1", "costly")])
    await eventually(lambda: answers(engine))
    assert engine.counters["engine_restarts"] == 1


async def all_released(decider: Decider, asked: Sequence[Question]) -> bool:
    decisions: list[Decision | None] = await decider.decide(asked)
    return all(decision is not None and decision.permitted for decision in decisions)


# A server in OPA's place that answers as it likes.

Reply = Callable[[list[str]], bytes]


class _Impostor:
    """Stands where the child would be: a socket that answers every question with `reply`'s bytes."""

    def __init__(self, socket: Path, reply: Reply) -> None:
        self.endpoint: Endpoint | None = Endpoint(socket, "token")
        self.restarts = 0
        self._reply = reply
        self._server: asyncio.Server | None = None
        self.closing = asyncio.Event()

    async def open(self) -> None:
        assert self.endpoint is not None
        self._server = await asyncio.start_unix_server(self._serve, self.endpoint.socket)

    async def close(self) -> None:
        self.closing.set()
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            int(row[15:]) for row in head.split(b"\r\n") if row.lower().startswith(b"content-length:")
        )
        asked = orjson.loads(await reader.readexactly(length))["input"]["items"]
        answer = self._reply([item["id"] for item in asked])
        if answer == HANG:
            await self.closing.wait()
        writer.write(answer)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        writer.close()


HANG = b"hang"


def http(body: object, status: str = "200 OK", more: str = "") -> bytes:
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n{more}\r\n"
    )
    return head.encode() + content


def good(ids: list[str], revision: str = REVISION.id) -> dict[str, Any]:
    results = [output(effect="release", id=item_id) for item_id in ids]
    return {"result": results, "provenance": {"bundles": {"rulebook.tar.gz": {"revision": revision}}}}


@pytest.fixture
async def engine_before(
    tmp_path: Path, opa_binary: Path
) -> AsyncIterator[Callable[[Reply], Awaitable[OpaEngine]]]:
    engines: list[OpaEngine] = []

    async def build(reply: Reply) -> OpaEngine:
        settings = OpaSettings(deadline_s=0.5, answer_limit_bytes=100_000)
        engine = OpaEngine(opa_binary, REVISION, settings)
        impostor: Any = _Impostor(tmp_path / "s", reply)
        await impostor.open()
        engine._child = impostor
        engines.append(engine)
        return engine

    yield build
    for engine in engines:
        await engine.close()


NO_DECISIONS: dict[str, Reply] = {
    "another revision": lambda ids: http(good(ids, "sha256:" + "0" * 64)),
    "no provenance": lambda ids: http({"result": good(ids)["result"]}),
    "provenance of other type": lambda ids: http({**good(ids), "provenance": [1]}),
    "undefined": lambda ids: http({"provenance": good(ids)["provenance"]}),
    "result of other type": lambda ids: http({**good(ids), "result": {"1": "release"}}),
    "null": lambda ids: http(b"null"),
    "no JSON": lambda ids: http(b"{"),
    "empty": lambda ids: http(b""),
    "refused": lambda ids: http(good(ids), "401 Unauthorized"),
    "failed": lambda ids: http(good(ids), "500 Internal Server Error"),
    "redirected": lambda ids: http(b"", "307 Temporary Redirect", "Location: http://opa/elsewhere\r\n"),
    "no HTTP": lambda ids: b"release everything\r\n\r\n",
    "closed": lambda ids: b"",
    "cut short": lambda ids: http(good(ids))[:-10],
    "endless": lambda ids: http({**good(ids), "padding": "x" * 200_000}),
    "silent": lambda ids: HANG,
}


@pytest.mark.parametrize("reply", NO_DECISIONS.values(), ids=NO_DECISIONS.keys())
async def test_an_answer_that_is_none_gives_no_decision(
    engine_before: Callable[[Reply], Awaitable[OpaEngine]], reply: Reply
) -> None:
    engine = await engine_before(reply)
    with pytest.raises(NoDecision):
        await engine.decide([item("1", "open"), item("2", "open")])


def _changed(change: Callable[[list[dict[str, Any]]], object]) -> Reply:
    def reply(ids: list[str]) -> bytes:
        document = good(ids)
        change(document["result"])
        return http(document)

    return reply


PARTLY: dict[str, tuple[Reply, set[str]]] = {
    "all": (lambda ids: http(good(ids)), {"1", "2", "3"}),
    "fewer": (_changed(lambda results: results.pop()), {"1", "2"}),
    "none": (_changed(lambda results: results.clear()), set()),
    "more than asked": (
        _changed(lambda results: results.append(output(effect="release", id="4"))),
        {"1", "2", "3"},
    ),
    "one twice": (_changed(lambda results: results.append(output(id="2"))), {"1", "3"}),
    "one three times": (_changed(lambda results: results.extend([output(id="2")] * 2)), {"1", "3"}),
    "one without id": (_changed(lambda results: results[0].pop("id")), {"2", "3"}),
    "id of other type": (_changed(lambda results: results[0].update(id=1)), {"2", "3"}),
    "one is no object": (_changed(lambda results: results.insert(0, ["release"])), {"1", "2", "3"}),  # type: ignore[arg-type]
    "one malformed": (_changed(lambda results: results[1].update(effect="all")), {"1", "3"}),
}


@pytest.mark.parametrize(("reply", "decided"), PARTLY.values(), ids=PARTLY.keys())
async def test_only_what_is_well_answered_is_decided(
    engine_before: Callable[[Reply], Awaitable[OpaEngine]], reply: Reply, decided: set[str]
) -> None:
    engine = await engine_before(reply)
    assert (await engine.decide([item(str(n), "open") for n in (1, 2, 3)])).keys() == decided
