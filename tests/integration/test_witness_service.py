"""The co-signing service over real TLS: C2SP tlog-witness's answers, and whatever strangers send."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import shutil
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from broker.adapters.witness.connections import ConnectionLimits
from broker.adapters.witness.service import WitnessService
from broker.core.checkpoint.cosignature import cosignature_time_s
from broker.core.checkpoint.note import SignedNote
from broker.core.witness.request import MAX_REQUEST_BYTES, format_request
from tests.fakes.witnessed_log import WitnessedLog
from tests.services.witness import ServedWitness, served

LOG = WitnessedLog().grow(20)
OTHER = LOG.fork(9).grow(11, "other")
GRACE_S = 60.0
"""How long a test waits for what must happen at once; nothing waits for so long unless it fails."""


@asynccontextmanager
async def posting(service: ServedWitness) -> AsyncIterator[aiohttp.ClientSession]:
    """A client that trusts the service."""
    connector = aiohttp.TCPConnector(ssl=service.tls())
    timeout = aiohttp.ClientTimeout(total=GRACE_S)
    async with aiohttp.ClientSession(service.url, connector=connector, timeout=timeout) as session:
        yield session


async def ask(session: aiohttp.ClientSession, body: bytes) -> tuple[int, str, bytes]:
    """Status, content type and content of an answer."""
    async with session.post("/add-checkpoint", data=body) as response:
        return response.status, response.content_type, await response.read()


async def test_the_answers_are_those_of_the_text(tmp_path: Path) -> None:
    stranger, impostor = WitnessedLog("elsewhere/broker").grow(3), WitnessedLog(seed=bytes(32)).grow(20)
    async with served(tmp_path / "w1", [LOG]) as service, posting(service) as session:
        assert (await ask(session, LOG.request(0, 7)))[0] == 200
        size = (409, "text/x.tlog.size", b"7\n")
        for body, expected in (
            (LOG.request(0, 20), size),
            (LOG.request(9, 20), size),
            (LOG.request(0, 3), size),
            (format_request(0, (), WitnessedLog().grow(7, "other").checkpoint()), size),
        ):
            assert await ask(session, body) == expected
        for body, status in (
            (b"nonsense", 400),
            (format_request(8, (), LOG.checkpoint(7)), 400),
            (impostor.request(7), 403),
            (stranger.request(0), 404),
            (format_request(7, (), WitnessedLog().grow(7, "other").checkpoint()), 409),
            (format_request(7, LOG.proof(7)[:-1], LOG.checkpoint()), 422),
            (WitnessedLog().grow(20, "other").request(7), 422),
        ):
            found, kind, content = await ask(session, body)
            assert (found, kind) == (status, "text/plain")
            assert content.count(b"\n") == 1
            assert LOG.origin.encode() not in content
        status, _, line = await ask(session, LOG.request(7, 20))
        assert status == 200
        cosigned = SignedNote.parse(LOG.checkpoint() + line)
        assert cosignature_time_s(cosigned, service.key) == 1_800_000_000
        assert cosigned.is_signed_by(LOG.key)


async def test_a_disk_that_fails_is_no_cosignature(tmp_path: Path) -> None:
    async with served(tmp_path / "w1", [LOG]) as service, posting(service) as session:
        await asyncio.to_thread(shutil.rmtree, tmp_path / "w1" / "state")
        answer = await ask(session, LOG.request(0))
        assert answer == (503, "text/plain", b"this witness cannot store checkpoints now; try again later\n")


async def test_a_failure_that_nobody_foresaw_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    def fail(body: bytes) -> bytes:
        raise RuntimeError(body.decode())

    service = WitnessService(fail, tls=None)
    port = service.listen("127.0.0.1", 0)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        answer = await ask(session, b"hidden")
    await service.close()
    assert answer == (500, "text/plain", b"this witness failed; tell its operator\n")
    assert "RuntimeError" in caplog.text
    assert "hidden" not in caplog.text


async def test_evidence_of_a_fork_is_kept_once_and_can_be_checked_by_others(tmp_path: Path) -> None:
    async with served(tmp_path / "w1", [LOG]) as service, posting(service) as session:
        await ask(session, LOG.request(0, 20))
        for _ in range(3):
            assert (await ask(session, OTHER.request(0)))[0] == 409
        assert service.store.misfits(LOG.origin) == 1
        (file,) = (tmp_path / "w1" / "state" / "evidence").iterdir()
        evidence = json.loads(file.read_text())
        assert evidence["kind"] == "fork"
        notes = [SignedNote.parse(evidence[name].encode()) for name in ("held", "offered")]
        assert all(note.is_signed_by(LOG.key) for note in notes)
        assert notes[0].text != notes[1].text


async def test_of_requests_at_the_same_time_one_history_is_cosigned(tmp_path: Path) -> None:
    async with served(tmp_path / "w1", [LOG]) as service, posting(service) as session:
        bodies = [log.request(0, size) for size in range(10, 21) for log in (LOG, OTHER)]
        answers = await asyncio.gather(*(ask(session, body) for body in bodies))
        assert sorted(status for status, _, _ in answers) == [200, *[409] * (len(bodies) - 1)]
        winner = next(n for n, (status, _, _) in enumerate(answers) if status == 200)
        assert service.store.held(LOG.origin) == bodies[winner].partition(b"\n\n")[2]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/add-checkpoint", 405),
        ("PUT", "/add-checkpoint", 405),
        ("POST", "/", 404),
        ("GET", "/state", 404),
    ],
)
async def test_there_is_nothing_else(tmp_path: Path, method: str, path: str, status: int) -> None:
    async with (
        served(tmp_path / "w1", [LOG]) as service,
        posting(service) as session,
        session.request(method, path, data=b"x") as response,
    ):
        assert response.status == status
        assert "aiohttp" not in str(response.headers)


async def test_a_body_that_is_too_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    async with served(tmp_path / "w1", [LOG]) as service, posting(service) as session:
        assert (await ask(session, b"x" * (MAX_REQUEST_BYTES + 1)))[0] == 413
        assert (await ask(session, b"x" * MAX_REQUEST_BYTES))[0] == 400
        # Only announced: the answer does not wait for it.
        reader, writer = await connect(service)
        writer.write(b"POST /add-checkpoint HTTP/1.1\r\nHost: w\r\nContent-Length: 9000000000\r\n\r\n")
        assert b" 413 " in await asyncio.wait_for(reader.readline(), GRACE_S)
        writer.close()
        # Without an announcement, for as long as it is taken.
        reader, writer = await connect(service)
        writer.write(b"POST /add-checkpoint HTTP/1.1\r\nHost: w\r\nTransfer-Encoding: chunked\r\n\r\n")
        answer = asyncio.create_task(reader.readline())
        with pytest.raises(ConnectionError):
            while True:
                writer.write(b"1000\r\n" + b"x" * 0x1000 + b"\r\n")
                await asyncio.wait_for(writer.drain(), GRACE_S)
        assert b" 413 " in await answer


async def test_compressed_bodies_are_not_opened(tmp_path: Path) -> None:
    async with served(tmp_path / "w1", [LOG]) as service, posting(service) as session:
        headers = {"Content-Encoding": "gzip"}
        bomb = gzip.compress(b"\0" * 50_000_000)
        async with session.post("/add-checkpoint", data=bomb, headers=headers) as response:
            assert response.status == 400


@pytest.mark.parametrize(
    "sent", [b"nonsense\r\n\r\n", b"\0" * 1000, b"GET " + b"x" * 100_000 + b" HTTP/1.1\r\n\r\n"]
)
async def test_what_is_not_http_is_refused_without_a_trace(
    tmp_path: Path, sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with served(tmp_path / "w1", [LOG]) as service:
        reader, writer = await connect(service)
        writer.write(sent)
        assert b" 400 " in await asyncio.wait_for(reader.read(4_096), GRACE_S)
        writer.close()
        async with posting(service) as session:
            assert (await ask(session, LOG.request(0)))[0] == 200
    assert not [
        record
        for record in caplog.records
        if record.name.startswith("broker") and record.levelno > logging.INFO
    ]


async def connect(
    service: ServedWitness, *, tls: bool = True
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to the service."""
    host, port = service.url.removeprefix("https://").split(":")
    return await asyncio.open_connection(host, int(port), ssl=service.tls() if tls else None)


async def ended(reader: asyncio.StreamReader) -> None:
    """Wait until the service has ended the connection."""
    try:
        while await asyncio.wait_for(reader.read(4_096), GRACE_S):
            pass
    except (ConnectionError, ssl.SSLError):
        pass


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"POST /add-checkpoint HTTP/1.1\r\nHost: w\r\n",
        b"POST /add-checkpoint HTTP/1.1\r\nHost: w\r\nContent-Length: 100\r\n\r\nold 0\n",
    ],
)
async def test_a_request_that_does_not_come_to_its_end_is_cut_off(tmp_path: Path, sent: bytes) -> None:
    limits = ConnectionLimits(request_s=0.2)
    async with served(tmp_path / "w1", [LOG], limits) as service:
        reader, writer = await connect(service)
        writer.write(sent)
        await ended(reader)
        writer.close()


async def test_a_handshake_that_does_not_come_to_its_end_is_cut_off(tmp_path: Path) -> None:
    """Twice, since there is room for one: the first gives its place back."""
    limits = ConnectionLimits(total=1, handshake_s=0.2)
    async with served(tmp_path / "w1", [LOG], limits) as service:
        for _ in range(2):
            reader, writer = await connect(service, tls=False)
            await ended(reader)
            writer.close()


async def test_a_connection_that_is_kept_open_serves_again_and_ends_when_idle(tmp_path: Path) -> None:
    limits = ConnectionLimits(total=1, request_s=GRACE_S, idle_s=0.2)
    async with served(tmp_path / "w1", [LOG], limits) as service:
        async with posting(service) as session:
            assert (await ask(session, LOG.request(0, 5)))[0] == 200
        reader, writer = await connect(service)
        body = LOG.request(5, 9)
        head = f"POST /add-checkpoint HTTP/1.1\r\nHost: w\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        writer.write(head + body)
        assert b" 200 " in await asyncio.wait_for(reader.readline(), GRACE_S)
        await ended(reader)
        writer.close()


async def test_one_address_cannot_take_all_connections(tmp_path: Path) -> None:
    limits = ConnectionLimits(total=8, per_address=2, request_s=GRACE_S)
    async with served(tmp_path / "w1", [LOG], limits) as service:
        held = [await connect(service) for _ in range(2)]
        with pytest.raises((ConnectionError, ssl.SSLError)):
            await connect(service)
        held[0][1].close()
        await held[0][1].wait_closed()
        async with posting(service) as session:
            async with asyncio.timeout(GRACE_S):
                while True:  # until the service has seen that the connection ended
                    try:
                        assert (await ask(session, LOG.request(0)))[0] == 200
                        break
                    except (aiohttp.ClientError, ConnectionError):
                        continue
        held[1][1].close()


async def test_connections_beyond_the_limit_wait_for_their_turn(tmp_path: Path) -> None:
    limits = ConnectionLimits(total=2, request_s=GRACE_S)
    async with served(tmp_path / "w1", [LOG], limits) as service:
        held = [await connect(service) for _ in range(2)]
        async with posting(service) as session:
            waiting = asyncio.create_task(ask(session, LOG.request(0)))
            await held[0][1].drain()
            assert not waiting.done()
            held[0][1].close()
            status, _, _ = await asyncio.wait_for(waiting, GRACE_S)
            assert status == 200
        held[1][1].close()


async def test_the_service_stops_while_others_are_connected(tmp_path: Path) -> None:
    async with served(tmp_path / "w1", [LOG], ConnectionLimits(request_s=GRACE_S)) as service:
        reader, writer = await connect(service)
        port = int(service.url.rpartition(":")[2])
    await ended(reader)
    writer.close()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0
