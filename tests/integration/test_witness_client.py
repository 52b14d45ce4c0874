"""A ledger's side of tlog-witness against services that are wrong, hostile or away: nothing of theirs is believed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from broker.adapters.witness.http import HttpSettings, HttpWitness
from broker.app.pki import make_authority
from broker.core.checkpoint.cosignature import Cosigner
from broker.core.checkpoint.note import SignedNote
from broker.ports.witness import WitnessConflict, WitnessFork, WitnessUnavailable
from tests.fakes.witnessed_log import WitnessedLog
from tests.services.ports import free_port
from tests.services.witness import served

LOG = WitnessedLog().grow(20)
COSIGNER = Cosigner("witness.example/w1", bytes(32))
STRANGER = Cosigner("witness.example/w1", bytes(range(32)))
NOW_S = 1_800_000_000
SIZE_TYPE = "text/x.tlog.size"

Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def answering(answer: Answer, *, timeout_s: float = 60.0) -> AsyncIterator[HttpWitness]:
    """A witness behind which a service answers as it likes."""
    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port := free_port())
    await site.start()
    url = f"http://127.0.0.1:{port}"
    witness = HttpWitness("w1", HttpSettings(url, COSIGNER.verifier_key, timeout_s=timeout_s))
    try:
        yield witness
    finally:
        await witness.close()
        await runner.cleanup()


def always(
    status: int, body: bytes, kind: str = "text/plain", headers: dict[str, str] | None = None
) -> Answer:
    async def answer(request: web.BaseRequest) -> web.Response:
        await request.read()
        return web.Response(status=status, body=body, content_type=kind, headers=headers)

    return answer


def line_of(cosigner: Cosigner, size: int, time_s: int = NOW_S) -> bytes:
    text = SignedNote.parse(LOG.checkpoint(size)).text
    return f"{cosigner.cosign(text, time_s).line()}\n".encode()


GOOD = line_of(COSIGNER, 20)


async def test_only_the_line_that_verifies_is_taken() -> None:
    # A line of another witness, and one of a kind that nobody here knows (ML-DSA-44 cosignatures are as long as this).
    unknown = "— witness.example/w1 ".encode() + b"AAAA" * 800 + b"\n"
    async with answering(always(200, line_of(STRANGER, 20) + unknown + GOOD)) as witness:
        assert await witness.offer(LOG.update(0)) == GOOD


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\n",
        b"ok\n",
        GOOD[:-1],
        GOOD[:-9] + b"\n",
        GOOD + b"trailing",
        GOOD[:-6] + b"AAA=\n" + GOOD,
        line_of(STRANGER, 20),
        line_of(COSIGNER, 19),
        GOOD.replace(b"w1", b"w2"),
        "\ufeff".encode() + GOOD,
        b"\xff" + GOOD,
        GOOD[:-20] + b"A" * 16 + GOOD[-4:],
    ],
)
async def test_an_answer_without_its_cosignature_is_no_success(body: bytes) -> None:
    async with answering(always(200, body)) as witness:
        with pytest.raises(
            WitnessUnavailable, match=r"without a cosignature of witness\.example/w1 that verifies"
        ):
            await witness.offer(LOG.update(0))
        with pytest.raises(WitnessUnavailable):
            await witness.held_size(LOG.origin, LOG.checkpoint())


async def test_a_held_size_is_what_the_conflict_says() -> None:
    async with answering(always(409, b"17\n", SIZE_TYPE)) as witness:
        assert await witness.held_size(LOG.origin, LOG.checkpoint()) == 17
        with pytest.raises(WitnessConflict) as conflict:
            await witness.offer(LOG.update(5))
        assert conflict.value.held_size == 17
        with pytest.raises(WitnessFork, match=r"w1: holds another history .* up to size 17"):
            await witness.offer(LOG.update(17))


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"17\n", "text/plain"),
        (b"", SIZE_TYPE),
        (b"\n", SIZE_TYPE),
        (b"-1\n", SIZE_TYPE),
        (b"017\n", SIZE_TYPE),
        (b"17\n17\n", SIZE_TYPE),
        (b"9223372036854775808\n", SIZE_TYPE),
        (b"9" * 5000 + b"\n", SIZE_TYPE),
        ("\u0667\n".encode(), SIZE_TYPE),
    ],
)
async def test_a_conflict_without_a_size_is_no_witness(body: bytes, kind: str) -> None:
    async with answering(always(409, body, kind)) as witness:
        with pytest.raises(WitnessUnavailable, match="w1: answers a conflict without a size"):
            await witness.offer(LOG.update(5))


async def test_a_conflict_of_roots_is_a_fork() -> None:
    """Some say so by telling no size, some tell the size that was offered, and some answer as to a false proof."""
    for answer in (always(409, b"no\n"), always(409, b"20\n", SIZE_TYPE), always(422, b"")):
        async with answering(answer) as witness:
            with pytest.raises(WitnessFork, match=r"w1: holds another history .* up to size 20"):
                await witness.offer(LOG.update(20, 20))


@pytest.mark.parametrize("old", [0, 5])
async def test_a_proof_that_the_witness_refuses_is_a_fork(old: int) -> None:
    async with answering(always(422, b"no\n")) as witness:
        with pytest.raises(WitnessFork if old else WitnessUnavailable, match=r"w1: .*422"):
            await witness.offer(LOG.update(old))


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (400, "malformed"),
        (403, "ledger.vkey"),
        (404, "origin"),
        (413, "too large"),
        (500, "operator"),
        (201, "operator"),
    ],
)
async def test_other_answers_say_what_to_do_and_quote_nothing(status: int, says: str) -> None:
    async with answering(always(status, b"\x1b[31mquoted\n" * 100)) as witness:
        with pytest.raises(WitnessUnavailable, match=f"w1: answers with HTTP {status}: .*{says}") as failed:
            await witness.offer(LOG.update(5))
        assert "quoted" not in str(failed.value)
        assert "\n" not in str(failed.value)


async def test_redirects_are_not_followed() -> None:
    asked: list[str] = []

    async def answer(request: web.BaseRequest) -> web.Response:
        asked.append(request.path)
        return web.Response(status=307, headers={"Location": "/elsewhere"})

    async with answering(answer) as witness:
        with pytest.raises(WitnessUnavailable, match="HTTP 307"):
            await witness.offer(LOG.update(5))
    assert asked == ["/add-checkpoint"]


async def test_an_answer_without_end_is_cut() -> None:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        with pytest.raises(ConnectionError):
            while True:
                await response.write(GOOD * 100)
        raise ConnectionError

    async with answering(answer) as witness:
        with pytest.raises(WitnessUnavailable, match="w1: answers with too much"):
            await witness.offer(LOG.update(0))


async def test_a_service_that_does_not_answer_is_away() -> None:
    released = asyncio.Event()

    async def answer(_: web.BaseRequest) -> web.Response:
        await released.wait()
        return web.Response()

    async with answering(answer, timeout_s=0.2) as witness:
        with pytest.raises(WitnessUnavailable, match=r"w1: does not answer within 0.2 s"):
            await witness.offer(LOG.update(0))
        released.set()


async def test_nobody_there_is_away() -> None:
    settings = HttpSettings(f"http://127.0.0.1:{free_port()}", COSIGNER.verifier_key)
    witness = HttpWitness("w1", settings)
    with pytest.raises(WitnessUnavailable, match="w1: cannot be reached"):
        await witness.offer(LOG.update(0))
    await witness.close()


async def test_a_service_is_who_its_certificate_says(tmp_path: Path) -> None:
    other_ca = tmp_path / "other.pem"
    other_ca.write_bytes(make_authority("Another", ["localhost"], NOW_S * 1000).certificate_pem)
    async with served(tmp_path / "w1", [LOG]) as service:
        port = service.url.rpartition(":")[2]
        for settings, says in (
            ({"ca_file": other_ca}, "its certificate is not one of a trusted authority"),
            ({"ca_file": None}, "its certificate is not one of a trusted authority"),
            ({"url": f"https://127.0.0.2:{port}"}, "cannot be reached|its certificate"),
            ({"url": f"http://127.0.0.1:{port}"}, "cannot be reached|HTTP 400"),
            ({"ca_file": tmp_path / "absent.pem"}, "cannot be reached"),
            ({"key": STRANGER.verifier_key}, "without a cosignature"),
        ):
            witness = service.client(**settings)
            with pytest.raises(WitnessUnavailable, match=says):
                await witness.offer(LOG.update(0))
            await witness.close()
        witness = service.client(url=f"https://localhost:{port}/")
        assert await witness.offer(LOG.update(20)) is not None, (
            "the stranger's offer was kept, and it is the same"
        )
        await witness.close()


async def test_no_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    async with answering(always(200, GOOD)) as witness:
        assert await witness.offer(LOG.update(0)) == GOOD


def test_a_key_of_a_log_is_none_of_a_witness() -> None:
    with pytest.raises(ValueError, match="cosignatures"):
        HttpWitness("w1", HttpSettings("https://witness.example", LOG.key))
