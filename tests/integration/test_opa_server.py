"""The guarded OPA server: who reaches it, and what it leaves behind."""

from __future__ import annotations

import asyncio
import gzip
import os
import stat
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from broker.adapters.opa import OpaEngine, OpaSettings, OpaStartFailed
from broker.adapters.opa.bundle import guard_bundle, rulebook_bundle
from broker.adapters.opa.child import Endpoint, OpaProcess
from broker.errors import RulebookRefused
from broker.model.rulebook import Revision
from tests.fakes.rulebook import item, output, scripted_rulebook

pytestmark = pytest.mark.opa
REVISION = scripted_rulebook({"open": [output(effect="release")]})
DECISIONS = "/v1/data/entente/decision/decisions?provenance=true"


async def _accepts(endpoint: Endpoint) -> bool:
    try:
        _, writer = await asyncio.open_unix_connection(endpoint.socket)
    except ConnectionError:
        return False
    writer.close()
    await writer.wait_closed()
    return True


@pytest.fixture
async def process(opa_binary: Path) -> AsyncIterator[OpaProcess]:
    launched = await OpaProcess.launch(opa_binary, rulebook_bundle(REVISION), OpaSettings())
    await launched.wait_until_ready(_accepts, 30)
    yield launched
    await launched.stop()


async def status(process: OpaProcess, method: str, path: str, token: str | None, body: str = "{}") -> int:
    headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
    connector = aiohttp.UnixConnector(str(process.endpoint.socket))
    async with (
        aiohttp.ClientSession(connector=connector, headers=headers) as session,
        session.request(method, f"http://opa{path}", data=body) as response,
    ):
        await response.read()
        return response.status


def own_directories() -> set[Path]:
    return set(Path(tempfile.gettempdir()).glob("entente-opa-*"))


def proc(process: OpaProcess, name: str) -> Path:
    return Path(f"/proc/{process.process.pid}/{name}")


async def test_the_token_opens_the_decisions_document(process: OpaProcess) -> None:
    assert await status(process, "POST", DECISIONS, process.endpoint.token, '{"input": {"items": []}}') == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/v1/policies/entente/decision/decision.rego"),
        ("DELETE", "/v1/policies/entente/decision/decision.rego"),
        ("GET", "/v1/policies"),
        ("GET", DECISIONS),
        ("PUT", "/v1/data/data/script"),
        ("PATCH", "/v1/data/data/script"),
        ("GET", "/v1/data"),
        ("POST", "/v1/data"),
        ("POST", "/v1/data/data/script?provenance=true"),
        ("POST", "/v1/data/token?provenance=true"),
        ("POST", "/v1/data/entente/decision?provenance=true"),
        ("POST", "/v1/data/entente/decision/decisions"),
        ("POST", "/v1/data/entente/decision/decisions?provenance=true&explain=full"),
        ("POST", "/v0/data/entente/decision/decisions"),
        ("POST", "/v1/query"),
        ("POST", "/v1/compile"),
        ("POST", "/"),
        ("GET", "/health"),
        ("GET", "/metrics"),
        ("GET", "/v1/config"),
        ("GET", "/v1/status"),
        ("GET", "/debug/pprof/"),
    ],
)
async def test_the_token_opens_nothing_else(process: OpaProcess, method: str, path: str) -> None:
    assert await status(process, method, path, process.endpoint.token) in {401, 404}


async def test_writing_a_policy_is_refused_as_unauthorised(process: OpaProcess) -> None:
    module = "package entente.decision\n\ndecisions := []\n"
    path = "/v1/policies/entente/decision/decision.rego"
    assert await status(process, "PUT", path, process.endpoint.token, module) == 401


@pytest.mark.parametrize("token", [None, "", "wrong"])
async def test_without_the_token_nothing_opens(process: OpaProcess, token: str | None) -> None:
    assert await status(process, "POST", DECISIONS, token) == 401


async def test_only_this_user_reaches_the_socket_and_no_bundle_stays_on_disk(process: OpaProcess) -> None:
    directory = process.endpoint.socket.parent
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE(process.endpoint.socket.stat().st_mode) == 0o600
    assert [path.name for path in directory.iterdir()] == ["opa.sock"]
    await process.stop()
    assert not directory.exists()


async def test_it_listens_on_no_network_and_knows_nothing_of_the_environment(process: OpaProcess) -> None:
    links = [os.fspath(fd.readlink()) for fd in proc(process, "fd").iterdir()]
    inodes = {link.removeprefix("socket:[").rstrip("]") for link in links if link.startswith("socket:")}
    assert inodes, "the Unix socket at least"
    for table in ("tcp", "tcp6", "udp", "udp6"):
        rows = proc(process, f"net/{table}").read_text().splitlines()[1:]
        assert not inodes & {row.split()[9] for row in rows}, table
    names = {pair.split(b"=")[0] for pair in proc(process, "environ").read_bytes().split(b"\0") if pair}
    assert names == {b"GOGC", b"GOMEMLIMIT"}


async def test_a_terminals_signals_do_not_reach_it(process: OpaProcess) -> None:
    assert os.getsid(process.process.pid) == process.process.pid


async def test_its_memory_is_limited(process: OpaProcess) -> None:
    row = next(row for row in proc(process, "limits").read_text().splitlines() if "data size" in row)
    assert str(OpaSettings().memory_limit_bytes) in row


async def test_bundles_are_the_same_bytes_each_time_and_hold_no_token() -> None:
    assert rulebook_bundle(REVISION) == rulebook_bundle(REVISION)
    assert b"secret-token" not in gzip.decompress(guard_bundle("secret-token"))


async def test_tests_of_the_rulebook_are_not_loaded(opa_binary: Path) -> None:
    sabotage = b"package entente.decision\n\ndecisions := 1\n"
    revision = scripted_rulebook({"open": [output()]}, **{"entente/decision/decision_test.rego": sabotage})
    engine = await OpaEngine.start(opa_binary, revision)
    try:
        assert (await engine.decide([item("1", "open")])).keys() == {"1"}
    finally:
        await engine.close()


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (b"package entente.decision\n\ndecisions := [\n", "ended with"),
        (b"package system.authz\n\nallow := true\n", "ended with"),
        (b"package entente.decision\n\nnothing := true\n", "does not answer"),
        (b"package entente.decision\n\ndecisions := input.items[0]\n", "does not answer"),
    ],
)
async def test_a_revision_that_cannot_serve_does_not_start(
    opa_binary: Path, module: bytes, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(OpaStartFailed, match=said):
        await OpaEngine.start(opa_binary, scripted_rulebook({}, module))
    assert not own_directories()


async def test_a_missing_program_is_said(tmp_path: Path) -> None:
    with pytest.raises(OpaStartFailed, match=r"ended with|cannot be started"):
        await OpaEngine.start(tmp_path / "no-opa", REVISION)


async def test_a_schema_that_leads_elsewhere_is_refused(opa_binary: Path) -> None:
    schema = b'{"$ref": "https://schemas.example/decision.json"}'
    files = {**REVISION.files, "schemas/decision.schema.json": schema}
    with pytest.raises(RulebookRefused, match=r"decision\.schema\.json"):
        await OpaEngine.start(opa_binary, Revision("sha256:0", files, time_dependent=False))


async def test_one_engine_serves_many_callers_at_once(opa_binary: Path) -> None:
    engine = await OpaEngine.start(opa_binary, REVISION, OpaSettings(deadline_s=30))
    try:
        batches = [engine.decide([item(str(n), "open") for n in range(50)]) for _ in range(40)]
        assert all(len(answer) == 50 for answer in await asyncio.gather(*batches))
    finally:
        await engine.close()
