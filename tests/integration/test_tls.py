"""The development certificates in real TLS handshakes: gRPC's, Python's, and a key set over https."""

from __future__ import annotations

import asyncio
import ssl
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from broker.adapters.clock import SystemClock
from broker.adapters.jwt.binding import certificate_thumbprint
from broker.adapters.jwt.issuers import FetchedKeys, JwksSettings, fetcher
from broker.adapters.jwt.keys import JWKS_LIMIT_BYTES, JwksRefused
from broker.app.initialise import initialise
from broker.app.pki import make_authority, make_server
from broker.app.tokens import read_thumbprint
from broker.errors import EntenteError
from tests.fakes.issuers import EMS, EMS_KEY, jwks, public_jwk

METHOD = "/test.Echo/Certificate"


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return initialise(tmp_path_factory.mktemp("tls") / "exchange").directory / "tls"


class Echo(grpc.GenericRpcHandler):
    """Answers with the client certificate's PEM, as the broker sees it."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        return grpc.unary_unary_rpc_method_handler(_certificate)


async def _certificate(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
    return next(iter(context.auth_context().get("x509_pem_cert", [])), b"")


@asynccontextmanager
async def listening(tls: Path, *, mutual: bool) -> AsyncIterator[int]:
    pair = ((tls / "server.key").read_bytes(), (tls / "server.pem").read_bytes())
    ca = (tls / "ca.pem").read_bytes() if mutual else None
    credentials = grpc.ssl_server_credentials([pair], ca, require_client_auth=mutual)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Echo(),))
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


async def call(address: str, credentials: grpc.ChannelCredentials) -> bytes:
    async with grpc.aio.secure_channel(address, credentials) as channel:
        reply: bytes = await channel.unary_unary(METHOD)(b"", timeout=20)
        return reply


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_grpc_accepts_the_server_by_name_and_address(tls: Path, host: str) -> None:
    credentials = grpc.ssl_channel_credentials((tls / "ca.pem").read_bytes())
    async with listening(tls, mutual=False) as port:
        assert await call(f"{host}:{port}", credentials) == b""


async def test_grpc_refuses_a_server_of_another_authority(tls: Path) -> None:
    other = make_authority("Another authority", ["localhost"], SystemClock().now_ms())
    credentials = grpc.ssl_channel_credentials(other.certificate_pem)
    async with listening(tls, mutual=False) as port:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(f"localhost:{port}", credentials)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_mutual_tls_shows_the_certificate_that_a_token_can_be_bound_to(tls: Path) -> None:
    ca, client = (tls / "ca.pem").read_bytes(), tls / "clients" / "ems.pem"
    credentials = grpc.ssl_channel_credentials(
        ca, client.with_suffix(".key").read_bytes(), client.read_bytes()
    )
    async with listening(tls, mutual=True) as port:
        pem = await call(f"localhost:{port}", credentials)
    der = x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)
    assert certificate_thumbprint(der) == read_thumbprint(client)


async def test_mutual_tls_refuses_no_certificate_and_one_that_is_not_a_clients(tls: Path) -> None:
    ca = (tls / "ca.pem").read_bytes()
    server = ((tls / "server.key").read_bytes(), (tls / "server.pem").read_bytes())
    async with listening(tls, mutual=True) as port:
        for credentials in (grpc.ssl_channel_credentials(ca), grpc.ssl_channel_credentials(ca, *server)):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call(f"localhost:{port}", credentials)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_pythons_tls_accepts_the_server(tls: Path) -> None:
    async with answering(tls, b"HTTP/1.1 200 OK\r\n\r\n") as port:
        context = ssl.create_default_context(cafile=str(tls / "ca.pem"))
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
        writer.close()
        await writer.wait_closed()


def test_the_authority_signs_for_its_hosts_only() -> None:
    now_ms = SystemClock().now_ms()
    authority = make_authority("Test authority", ["localhost"], now_ms)
    server = make_server(authority, ["elsewhere.example"], now_ms)
    client, peer = ssl.create_default_context(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    client.load_verify_locations(cadata=authority.certificate_pem.decode())
    _load(peer, server.certificate_pem + server.key_pem)
    with pytest.raises(ssl.SSLCertVerificationError, match="permitted subtree violation"):
        _shake_hands(client, peer, "elsewhere.example")


def _load(context: ssl.SSLContext, pem: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(pem)
        file.flush()
        context.load_cert_chain(file.name)


def _shake_hands(client: ssl.SSLContext, server: ssl.SSLContext, name: str) -> None:
    """A handshake in memory."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    for _ in range(10):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue


@asynccontextmanager
async def answering(
    tls: Path | None, answer: bytes, requests: list[bytes] | None = None
) -> AsyncIterator[int]:
    """A server that sends one canned answer to every request and closes; https with `tls`, else http."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            if requests is not None:
                requests.append(head)
            writer.write(answer)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    context = None
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls / "server.pem", tls / "server.key")
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


KEY_SET = jwks(public_jwk(EMS_KEY, "ed"))
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"


async def test_a_key_set_is_fetched_over_https(tls: Path) -> None:
    requests: list[bytes] = []
    settings = JwksSettings(ca_file=tls / "ca.pem")
    async with answering(tls, OK + KEY_SET, requests) as port:
        url = f"https://localhost:{port}/keys"
        keys = FetchedKeys(EMS, fetcher(url, settings), settings, SystemClock())
        assert await keys.find("ed") is not None
        assert await keys.find("unknown") is None
        await keys.close()
    assert len(requests) == 1
    assert requests[0].startswith(b"GET /keys HTTP/1.1\r\n")


async def test_an_untrusted_site_gives_no_keys(tls: Path) -> None:
    async with answering(tls, OK + KEY_SET) as port:
        keys = FetchedKeys(
            EMS, fetcher(f"https://localhost:{port}/", JwksSettings()), JwksSettings(), SystemClock()
        )
        with pytest.raises(EntenteError):
            await keys.find("ed")


async def test_http_on_loopback_works_without_the_environments_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    async with answering(None, OK + KEY_SET) as port:
        fetch = fetcher(f"http://127.0.0.1:{port}/", JwksSettings(insecure_http_loopback=True))
        assert await fetch() == KEY_SET


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        OK + b" " * (JWKS_LIMIT_BYTES + 1),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"10000\r\n" + b" " * 65536 + b"\r\n" * 5,
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
        b"nonsense\r\n\r\n",
        b"",
    ],
)
async def test_other_answers_give_no_keys(answer: bytes) -> None:
    settings = JwksSettings(insecure_http_loopback=True)
    async with answering(None, answer) as port:
        keys = FetchedKeys(EMS, fetcher(f"http://127.0.0.1:{port}/", settings), settings, SystemClock())
        with pytest.raises(EntenteError):
            await keys.find("ed")


async def test_redirects_are_not_followed() -> None:
    requests: list[bytes] = []
    async with answering(None, OK + KEY_SET, requests) as target:
        redirect = f"HTTP/1.1 307 Temporary Redirect\r\nLocation: http://127.0.0.1:{target}/\r\n\r\n".encode()
        async with answering(None, redirect) as port:
            with pytest.raises(JwksRefused, match="307"):
                await fetcher(f"http://127.0.0.1:{port}/", JwksSettings(insecure_http_loopback=True))()
    assert requests == []
