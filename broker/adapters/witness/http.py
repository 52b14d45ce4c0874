"""A witness that is a service: the client's side of C2SP tlog-witness, for any server of that protocol.

Nothing that the service says is believed: a cosignature counts once it was verified against the configured key.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from broker.core.checkpoint.checkpoint import MAX_SIZE, unverified_checkpoint
from broker.core.checkpoint.cosignature import cosignature_time_s
from broker.core.checkpoint.note import COSIGNATURE_V1, NoteInvalid, NoteSignature, SignedNote, VerifierKey
from broker.core.witness.request import format_request
from broker.ports.witness import WitnessConflict, WitnessFork, WitnessUnavailable, WitnessUpdate

_ANSWER_BYTES = 64 * 1024
_SIZE_TYPE = "text/x.tlog.size"
_REMEDIES = {
    400: "it takes the request for malformed; see its version of tlog-witness",
    403: "it does not know the ledger's key; give its operator keys/ledger.vkey",
    404: "it does not know the ledger's origin; give that to its operator, or correct the url",
    413: "the request is too large for it; tell its operator",
    429: "it takes no more requests for now",
}


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """url: what `/add-checkpoint` is appended to. key: the witness's (cosignature/v1). timeout_s: for a whole request.

    ca_file: an authority to trust instead of the system's.
    """

    url: str
    key: VerifierKey
    ca_file: Path | None = None
    timeout_s: float = 10.0


class HttpWitness:
    """Implements Witness; belongs to the event loop. Keeps one connection, made when it is first used."""

    def __init__(self, name: str, settings: HttpSettings) -> None:
        """Raises ValueError for a key that is not one of a witness."""
        if settings.key.algorithm != COSIGNATURE_V1:
            raise ValueError("the key is not one for cosignatures")
        self._name = name
        self._settings = settings
        self._session: aiohttp.ClientSession | None = None

    @property
    def name(self) -> str:
        """See Witness."""
        return self._name

    async def held_size(self, origin: str, checkpoint: bytes) -> int:
        """See Witness: what the service says when it is offered a checkpoint as if for the first time."""
        try:
            await self.offer(WitnessUpdate(origin, checkpoint, 0, ()))
        except WitnessConflict as conflict:
            return conflict.held_size
        return unverified_checkpoint(checkpoint).size

    async def latest(self, origin: str) -> None:
        """See Witness: the protocol tells the size alone."""

    async def offer(self, update: WitnessUpdate) -> bytes:
        """See Witness."""
        status, kind, body = await self._post(format_request(update.old_size, update.proof, update.note))
        if status == 200:
            return self._verified(update.note, body)
        if status == 409 and not self._is_fork(update, kind, body):
            raise WitnessConflict(self._size(kind, body))
        if status in (409, 422) and update.old_size:
            raise WitnessFork(
                f"{self._name}: holds another history of {update.origin} up to size {update.old_size} (HTTP {status});"
                " find out which is true, with its operator"
            )
        remedy = _REMEDIES.get(status, "ask its operator")
        raise WitnessUnavailable(f"{self._name}: answers with HTTP {status}: {remedy}")

    async def close(self) -> None:
        """See Witness."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _post(self, body: bytes) -> tuple[int, str, bytes]:
        """Status, content type and content. Raises WitnessUnavailable."""
        url = f"{self._settings.url.rstrip('/')}/add-checkpoint"
        try:
            session = self._connected()
            headers = {"Content-Type": "text/plain; charset=utf-8", "Accept-Encoding": "identity"}
            async with session.post(url, data=body, headers=headers, allow_redirects=False) as response:
                content = bytearray()
                async for piece in response.content.iter_chunked(16_384):
                    content += piece
                    if len(content) > _ANSWER_BYTES:
                        raise WitnessUnavailable(f"{self._name}: answers with too much; this is no witness")
                return response.status, response.content_type, bytes(content)
        except TimeoutError:
            told = f"does not answer within {self._settings.timeout_s:g} s; see whether it runs and can be reached"
        except aiohttp.ClientConnectorCertificateError:
            told = "its certificate is not one of a trusted authority for this host; correct ca_file or url"
        except (
            aiohttp.ClientError,
            OSError,
        ) as error:  # TLS that fails otherwise, too, and an unreadable ca_file
            told = f"cannot be reached ({type(error).__name__}); see whether it runs, and the url and ca_file"
        raise WitnessUnavailable(f"{self._name}: {told}")

    def _connected(self) -> aiohttp.ClientSession:
        """Raises OSError if `ca_file` cannot be read."""
        if self._session is None:
            ca_file = self._settings.ca_file
            context = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=context, limit=1),
                timeout=aiohttp.ClientTimeout(total=self._settings.timeout_s),
                trust_env=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
            )
        return self._session

    def _is_fork(self, update: WitnessUpdate, kind: str, body: bytes) -> bool:
        """Whether a conflict is one of roots: it holds the very size that was offered, or says so by telling no size."""
        if kind != _SIZE_TYPE:
            return 0 < update.old_size == unverified_checkpoint(update.note).size
        return self._size(kind, body) == update.old_size

    def _size(self, kind: str, body: bytes) -> int:
        digits = body.removesuffix(b"\n")
        canonical = digits.isdigit() and (digits == b"0" or not digits.startswith(b"0")) and len(digits) <= 19
        if kind != _SIZE_TYPE or not canonical or int(digits) > MAX_SIZE:
            raise WitnessUnavailable(
                f"{self._name}: answers a conflict without a size; it is no tlog-witness"
            )
        return int(digits)

    def _verified(self, note: bytes, body: bytes) -> bytes:
        """The line of the answer that is this witness's cosignature; lines of unknown keys are ignored."""
        key = self._settings.key
        try:
            text = SignedNote.parse(note).text
            if not body.endswith(b"\n"):
                raise NoteInvalid("a signature line ends with a newline")
            for line in body.decode()[:-1].split("\n"):
                signature = NoteSignature.parse(line)
                if cosignature_time_s(SignedNote(text, (signature,)), key) is not None:
                    return f"{line}\n".encode()
        except (NoteInvalid, UnicodeDecodeError):
            pass
        raise WitnessUnavailable(
            f"{self._name}: answers without a cosignature of {key.name} that verifies; correct vkey, or ask its operator"
        )
