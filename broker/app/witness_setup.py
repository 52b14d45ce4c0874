"""`entente witness init`: a directory with all that a co-signing witness needs, made whole or not at all."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tomli_w

from broker.adapters.clock import SystemClock
from broker.adapters.witness.state import file_name
from broker.app.config import split_address
from broker.app.new_directory import InitialiseRefused, new_directory, write_credential, write_new
from broker.app.pki import make_authority, make_server
from broker.core.checkpoint.cosignature import Cosigner
from broker.core.checkpoint.note import ED25519, NoteInvalid, VerifierKey
from broker.ports.clock import Clock

WITNESS_CONFIG_NAME = "witness.toml"
_LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "::1")
_SEED_BYTES = 32
_VKEYS_BYTES = 64 * 1024
_HEADER = b"""# A co-signing witness, made by `entente witness init`.
# tls/ holds a certificate of an authority of its own; bring one that the logs trust already, if there is one.
# Relative paths are relative to this file.

"""


@dataclass(frozen=True, slots=True)
class WitnessSummary:
    """What was made: where, the address to listen on, the public key, and the origins that are trusted."""

    directory: Path
    config: Path
    address: str
    vkey: str
    origins: tuple[str, ...]


def initialise_witness(
    directory: Path,
    name: str,
    listen: str,
    trust: Sequence[tuple[str, Path]],
    *,
    clock: Clock | None = None,
) -> WitnessSummary:
    """Make `directory` a witness of this name. trust: origins, each with a file of its log's vkey lines.

    Raises InitialiseRefused if the directory is not empty, an argument cannot be used, or writing fails.
    """
    host = _host(listen)
    seed = secrets.token_bytes(_SEED_BYTES)
    try:
        vkey = Cosigner(name, seed).verifier_key.text()
    except NoteInvalid as error:
        raise InitialiseRefused(f"--name: {error}; write one such as witness.example/w1") from None
    logs = [{"origin": origin, "vkeys": _vkeys(origin, file)} for origin, file in trust]
    config = {
        "name": name,
        "listen": listen,
        "key": "witness.key",
        "state": "state",
        "tls": {"certificate": "tls/server.pem", "key": "tls/server.key"},
        "logs": logs,
    }
    target = directory.absolute()
    with new_directory(target) as building:
        for part in ("state", "tls"):
            (building / part).mkdir(mode=0o700)
        _write_tls(building / "tls", host, (clock or SystemClock()).now_ms())
        write_new(building / "witness.key", base64.b64encode(seed) + b"\n", private=True)
        write_new(building / "witness.vkey", f"{vkey}\n".encode(), private=False)
        write_new(building / WITNESS_CONFIG_NAME, _HEADER + tomli_w.dumps(config).encode(), private=False)
    origins = tuple(origin for origin, _ in trust)
    return WitnessSummary(target, target / WITNESS_CONFIG_NAME, listen, vkey, origins)


def _host(listen: str) -> str:
    try:
        return split_address(listen)[0]
    except ValueError as error:
        raise InitialiseRefused(f"--listen {error}") from None


def _vkeys(origin: str, file: Path) -> list[str]:
    try:
        file_name(origin)
        with file.open("rb") as opened:
            lines = opened.read(_VKEYS_BYTES).decode().splitlines()
        vkeys = [line for line in lines if line]
        if not vkeys or any(VerifierKey.parse(vkey).algorithm != ED25519 for vkey in vkeys):
            raise ValueError("holds no line of a log's public key")
    except OSError as error:
        raise InitialiseRefused(f"{file}: cannot be read: {error.strerror}; correct the path") from None
    except ValueError as error:
        raise InitialiseRefused(f"--trust {origin}: {file}: {error}; name the log's ledger.vkey") from None
    return vkeys


def _write_tls(directory: Path, host: str, now_ms: int) -> None:
    """A certificate for the host and this machine. The authority's own key is not kept: it signs nothing else."""
    hosts = [*_LOOPBACK_HOSTS, *([] if host in ("0.0.0.0", "::") else [host])]  # noqa: S104
    authority = make_authority("Authority of one witness", hosts, now_ms)
    write_new(directory / "ca.pem", authority.certificate_pem, private=False)
    write_credential(directory / "server", make_server(authority, hosts, now_ms))
