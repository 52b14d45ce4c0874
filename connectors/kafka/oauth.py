"""Bearer tokens for SASL/OAUTHBEARER (RFC 7628): from a file that something else rewrites, or from a token endpoint."""

from __future__ import annotations

import base64
import http.client
import json
import os
import ssl
import threading
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.parse import quote_plus, urlencode

from connectors.runtime.model import ConnectorFailed

ANSWER_TIMEOUT_S = 10.0
MOST_TOKEN_BYTES = 64 * 1024
LATEST_RENEWAL_S = 60.0
"""A token is replaced at a quarter of its life before its end, and a minute before at most."""


def token_in(file: Path) -> Callable[[], str]:
    """A provider that reads the file each time; a group may read it, since another user may be the one who renews it.

    It raises ConnectorFailed, which names the file only.
    """

    def read() -> str:
        try:
            with file.open("rb") as opened:
                everybody = os.fstat(opened.fileno()).st_mode & 0o007
                text = opened.read(MOST_TOKEN_BYTES).decode().strip()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "is no text"
            raise ConnectorFailed(f"{file}: {why}; put a token there") from None
        if everybody:
            raise ConnectorFailed(
                f"{file}: every user may read or write it; run 'chmod 600' on it, and get a new token"
            )
        return _sendable(text, str(file))

    return read


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenEndpoint:
    """Where client credentials are exchanged for tokens (RFC 6749 §4.4), over TLS only.

    client_secret: gives the secret as it is now. ca_file: the endpoint's authority, PEM; default the system's.
    """

    url: str
    client_id: str
    client_secret: Callable[[], str] = field(repr=False)
    scope: str | None = None
    ca_file: str | None = None


class ClientCredentials:
    """A provider that asks a token endpoint, and keeps each token until shortly before its end. For any thread."""

    def __init__(self, endpoint: TokenEndpoint) -> None:
        self._endpoint = endpoint
        self._lock = threading.Lock()
        self._token: str | None = None
        self._due_s = 0.0

    def __call__(self) -> str:
        """A token that is good now. Raises ConnectorFailed, which names the endpoint and never the secret."""
        with self._lock:
            if self._token is None or time.monotonic() >= self._due_s:
                self._token, life_s = _granted(self._endpoint)
                self._due_s = time.monotonic() + life_s - min(LATEST_RENEWAL_S, life_s / 4)
            return self._token


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the client's secret to somebody else."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> None:
        return None


def _granted(endpoint: TokenEndpoint) -> tuple[str, float]:
    """A fresh token and its life in seconds."""
    try:
        context = ssl.create_default_context(cafile=endpoint.ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context), _NoRedirect())
        with opener.open(_request(endpoint), timeout=ANSWER_TIMEOUT_S) as answer:
            body = answer.read(MOST_TOKEN_BYTES)
    except HTTPError as error:
        with error:
            raise _failed(endpoint, f"answers {error.code}") from None
    except URLError as error:
        raise _failed(endpoint, f"cannot be reached ({type(error.reason).__name__})") from None
    except (OSError, http.client.HTTPException) as error:
        raise _failed(endpoint, f"cannot be reached ({type(error).__name__})") from None
    return _token_and_life(endpoint, body)


def _request(endpoint: TokenEndpoint) -> urllib.request.Request:
    """RFC 6749 §4.4.2, the client authenticated as in §2.3.1."""
    form = {"grant_type": "client_credentials"} | (
        {} if endpoint.scope is None else {"scope": endpoint.scope}
    )
    pair = f"{quote_plus(endpoint.client_id)}:{quote_plus(endpoint.client_secret())}"
    headers = {
        "Accept": "application/json",
        "Authorization": "Basic " + base64.b64encode(pair.encode()).decode("ascii"),
    }
    return urllib.request.Request(  # noqa: S310 - the settings take https only
        endpoint.url, data=urlencode(form).encode("ascii"), headers=headers, method="POST"
    )


def _token_and_life(endpoint: TokenEndpoint, body: bytes) -> tuple[str, float]:
    try:
        answer = json.loads(body)
        token, life_s = str(answer["access_token"]), float(answer.get("expires_in", 0))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise _failed(endpoint, "answers without an access_token (RFC 6749 §5.1)") from None
    return _sendable(token, endpoint.url), max(0.0, life_s)


def _sendable(token: str, place: str) -> str:
    # Separators of the SASL message (RFC 7628 §3.1) within a token would let it add fields.
    if not token or not token.isascii() or not token.isprintable():
        raise ConnectorFailed(f"{place}: gives no bearer token; see that it is one line of ASCII")
    return token


def _failed(endpoint: TokenEndpoint, why: str) -> ConnectorFailed:
    return ConnectorFailed(
        f"token endpoint {endpoint.url}: {why}; see its address, client_id and client_secret"
    )
