"""Tokens for a cluster from a token endpoint over TLS: kept while they are good, and never told to anybody else."""

from __future__ import annotations

import base64
import json
import ssl
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from connectors.kafka.oauth import ClientCredentials, TokenEndpoint, token_in
from connectors.runtime.model import ConnectorFailed
from tests.services.certificates import make_certificate, pem, server_pem

SECRET = "s3cr3t/+ ü"


class Endpoint:
    """A token endpoint; notes what it was asked, and answers as a test says."""

    def __init__(self, directory: Path) -> None:
        self.asked: list[tuple[str, dict[str, list[str]]]] = []
        self.answer = (200, json.dumps({"access_token": "token-1", "expires_in": 3600}).encode())
        self.location: str | None = None
        ca = make_certificate("CA", None)
        (directory / "ca.pem").write_bytes(pem(ca[0]))
        (directory / "other.pem").write_bytes(pem(make_certificate("CA", None)[0]))
        (directory / "server.pem").write_bytes(server_pem("issuer", ca))
        self.directory = directory
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(directory / "server.pem")
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self.server.server_port}/token"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                form = self.rfile.read(int(self.headers["Content-Length"])).decode()
                endpoint.asked.append((self.headers["Authorization"], parse_qs(form)))
                self._answer(*endpoint.answer)

            def do_GET(self) -> None:
                endpoint.asked.append((self.headers.get("Authorization", ""), {"redirected": []}))
                self._answer(200, b'{"access_token": "stolen"}')

            def _answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                if endpoint.location is not None:
                    self.send_header("Location", endpoint.location)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Says nothing."""

        return Handler

    def provider(self, ca: str = "ca.pem", scope: str | None = None) -> ClientCredentials:
        settings = TokenEndpoint(
            url=self.url,
            client_id="entente: a",
            client_secret=lambda: SECRET,
            scope=scope,
            ca_file=str(self.directory / ca),
        )
        assert SECRET not in repr(settings)
        return ClientCredentials(settings)


@contextmanager
def serving(directory: Path) -> Iterator[Endpoint]:
    endpoint = Endpoint(directory)
    thread = threading.Thread(target=endpoint.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield endpoint
    finally:
        endpoint.server.shutdown()
        thread.join()
        endpoint.server.server_close()


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[Endpoint]:
    with serving(tmp_path) as running:
        yield running


def test_the_client_shows_its_secret_as_rfc_6749_says_and_keeps_the_token(endpoint: Endpoint) -> None:
    provider = endpoint.provider(scope="kafka read")
    assert [provider(), provider()] == ["token-1", "token-1"]
    [(authorization, form)] = endpoint.asked
    name, secret = base64.b64decode(authorization.removeprefix("Basic ")).decode().split(":")
    assert (name, secret) == ("entente%3A+a", "s3cr3t%2F%2B+%C3%BC")
    assert form == {"grant_type": ["client_credentials"], "scope": ["kafka read"]}


def test_a_token_without_a_life_is_asked_for_each_time(endpoint: Endpoint) -> None:
    endpoint.answer = (200, b'{"access_token": "token-1"}')
    provider = endpoint.provider()
    assert provider() == "token-1"
    endpoint.answer = (200, b'{"access_token": "token-2", "expires_in": 0}')
    assert provider() == "token-2"


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ((401, b'{"error": "invalid_client: s3cr3t"}'), "answers 401"),
        ((500, b""), "answers 500"),
        ((200, b"no json"), "without an access_token"),
        ((200, b"[]"), "without an access_token"),
        ((200, b'{"access_token": "two\\nlines"}'), "gives no bearer token"),
        ((200, b'{"access_token": "a\\u0001auth=b"}'), "gives no bearer token"),
        ((200, b'{"access_token": ""}'), "gives no bearer token"),
    ],
)
def test_what_is_no_token_is_told_without_a_word_of_it(
    endpoint: Endpoint, answer: tuple[int, bytes], why: str
) -> None:
    endpoint.answer = answer
    with pytest.raises(ConnectorFailed, match=why) as told:
        endpoint.provider()()
    assert endpoint.url in told.value.cause
    assert "s3cr3t" not in told.value.cause
    assert "s3cr3t" not in "".join(traceback.format_exception(told.value))


def test_a_redirect_is_not_followed_as_it_would_carry_the_secret_away(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    endpoint.answer, endpoint.location = (302, b""), endpoint.url
    with pytest.raises(ConnectorFailed, match="answers 302"):
        endpoint.provider()()
    assert len(endpoint.asked) == 1


def test_an_endpoint_of_another_authority_is_not_asked(endpoint: Endpoint) -> None:
    with pytest.raises(ConnectorFailed, match=r"cannot be reached \(SSLCertVerificationError\)"):
        endpoint.provider("other.pem")()
    assert endpoint.asked == []


def test_an_endpoint_that_is_not_there_is_told_as_such(tmp_path: Path) -> None:
    with serving(tmp_path) as stopped:
        provider = stopped.provider()
    with pytest.raises(ConnectorFailed, match=r"cannot be reached \(ConnectionRefusedError\)"):
        provider()


def test_a_token_file_is_read_each_time_and_not_if_every_user_may(tmp_path: Path) -> None:
    file = tmp_path / "token"
    read = token_in(file)
    with pytest.raises(ConnectorFailed, match="No such file"):
        read()
    file.touch(0o600)
    for token in ("token-1", "token-2"):
        file.write_text(token + "\n")
        assert read() == token
    file.write_text("two\nlines")
    with pytest.raises(ConnectorFailed, match="gives no bearer token"):
        read()
    file.chmod(0o644)
    with pytest.raises(ConnectorFailed, match="every user may read"):
        read()
