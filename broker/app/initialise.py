"""`entente init`: a ready exchange for development and demonstrations, made whole or not at all."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import tomli_w
import yaml

import broker
from broker.adapters.clock import SystemClock
from broker.adapters.keyring import USES, FileKeys, new_key_file
from broker.app.config import split_address
from broker.app.new_directory import InitialiseRefused, new_directory, write_credential, write_new
from broker.app.pki import make_authority, make_client, make_server
from broker.app.tokens import IssuerKey, new_issuer_key
from broker.core.ledger.signing import LedgerKeys
from broker.ports.clock import Clock

DEFAULT_RULEBOOK = Path(broker.__file__).parents[1] / "policy"
"""The same place in a checkout and in an installed wheel."""

CONFIG_NAME = "entente.toml"
_EXCHANGE = "development"
_AUDIENCE = "entente-development"
_LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "::1")
_HEADER = b"""# An exchange for development, made by `entente init`.
# The authority in tls/ and the issuer keys in issuers/ stand in for what agencies bring themselves.
# Relative paths are relative to this file.

"""


@dataclass(frozen=True, slots=True)
class Sample:
    """The claims of a sample principal; also the name of its context."""

    context: str
    agency: str
    subject: str
    role: str
    purpose: str
    clearance: str


_STAFF = (
    Sample("highway-patrol", "highway-patrol", "officer-1", "officer", "law-enforcement", "red"),
    Sample("ems", "ems", "paramedic-1", "paramedic", "emergency-response", "red"),
    Sample("transport", "transport", "analyst-1", "analyst", "road-safety-statistics", "amber"),
    Sample("cyber-centre", "cyber-centre", "analyst-1", "analyst", "cyber-defence", "red"),
    Sample("partner-cert", "partner-cert", "analyst-1", "analyst", "cyber-defence", "green"),
)
_EXCHANGE_STAFF = (
    Sample("admin-1", "exchange", "admin-1", "exchange-admin", "exchange-administration", "clear"),
    Sample("admin-2", "exchange", "admin-2", "exchange-admin", "exchange-administration", "clear"),
    Sample("auditor-1", "exchange", "auditor-1", "auditor", "exchange-administration", "clear"),
)
# Two of each agency, as the rulebook lists them: nobody approves what they proposed themselves.
_ADMINISTRATORS = tuple(
    replace(staff, context=f"{staff.agency}-admin{suffix}", subject=subject, role="agency-admin")
    for staff in _STAFF
    for suffix, subject in (("", "admin-1"), ("-2", "admin-2"))
)
SAMPLES = (*_STAFF, *_EXCHANGE_STAFF, *_ADMINISTRATORS)


@dataclass(frozen=True, slots=True)
class Summary:
    """What was made: where, its listeners, and the contexts that the command line can use."""

    directory: Path
    config: Path
    tls_address: str
    mtls_address: str
    backend: str
    contexts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Plan:
    host: str
    port: int
    backend: Literal["embedded", "kafka"]
    kafka: str | None
    now_ms: int

    def address(self, *, offset: int = 0, reachable: bool = False) -> str:
        """An address to listen on; `reachable`: one to call, also where the listener takes every interface."""
        host = "127.0.0.1" if reachable and self.host in ("0.0.0.0", "::") else self.host  # noqa: S104
        return f"[{host}]:{self.port + offset}" if ":" in host else f"{host}:{self.port + offset}"


def initialise(
    directory: Path,
    listen: str = "127.0.0.1:7443",
    backend: Literal["embedded", "kafka"] = "embedded",
    kafka: str | None = None,
    *,
    clock: Clock | None = None,
    rulebook: Path = DEFAULT_RULEBOOK,
) -> Summary:
    """Make `directory` an exchange: configuration, TLS, rulebook, issuer keys, secret keys, contexts.

    The mTLS listener takes the port after `listen`'s. It is built in a hidden sibling and renamed into place.
    Raises InitialiseRefused if the directory is not empty, an argument cannot be used, or writing fails.
    """
    plan = _plan(listen, backend, kafka, (clock or SystemClock()).now_ms())
    target = directory.absolute()
    if not (rulebook / "manifest.yaml").is_file():
        raise InitialiseRefused(
            f"{rulebook}: is no rulebook; install the package again, or use a whole checkout"
        )
    with new_directory(target) as building:
        _build(building, plan, rulebook)
    contexts = tuple(sample.context for sample in SAMPLES)
    config = target / CONFIG_NAME
    return Summary(target, config, plan.address(), plan.address(offset=1), backend, contexts)


def _plan(listen: str, backend: Literal["embedded", "kafka"], kafka: str | None, now_ms: int) -> _Plan:
    try:
        host, port = split_address(listen)
    except ValueError as error:
        raise InitialiseRefused(f"--listen {error}") from None
    if not 1 <= port <= 65534:
        raise InitialiseRefused(
            "--listen needs a port of 1 to 65534; the mTLS listener takes the one after it"
        )
    if (backend == "kafka") != (kafka is not None):
        raise InitialiseRefused("--kafka HOST:PORT belongs to --backend kafka; give both or neither")
    if kafka is not None:
        try:
            split_address(kafka)
        except ValueError as error:
            raise InitialiseRefused(f"--kafka {error}") from None
    return _Plan(host, port, backend, kafka, now_ms)


def _build(root: Path, plan: _Plan, rulebook: Path) -> None:
    for name in ("data", "issuers", "keys", "tls", "tls/clients"):
        (root / name).mkdir(mode=0o700)
    _copy_rulebook(rulebook, root / "rulebook")
    issuers = _write_issuers(root)
    _write_tls(root / "tls", plan, sorted(issuers))
    for use in USES:
        write_new(root / "keys" / f"{use}.keys", new_key_file(plan.now_ms), private=True)
    public = LedgerKeys(FileKeys.open(root / "keys"), _EXCHANGE)
    write_new(root / "keys" / "ledger.vkey", public.file(), private=False)
    write_new(root / CONFIG_NAME, _HEADER + tomli_w.dumps(_config(plan)).encode(), private=False)


def _copy_rulebook(source: Path, target: Path) -> None:
    target.mkdir(mode=0o700)
    for path in sorted(source.iterdir()):
        if path.name.startswith((".", "__")) or path.is_symlink():
            continue
        if path.is_dir():
            _copy_rulebook(path, target / path.name)
        elif path.suffix not in (".py", ".pyc"):
            write_new(target / path.name, path.read_bytes(), private=False)


def _write_issuers(root: Path) -> Mapping[str, IssuerKey]:
    """A key for each agency whose first issuer has a `jwks_file`: private in issuers/, public in the rulebook."""
    keys: dict[str, IssuerKey] = {}
    for path in sorted((root / "rulebook" / "data" / "agencies").glob("*/data.yaml")):
        agency = path.parent.name
        issuer = yaml.safe_load(path.read_bytes())["issuers"][0]
        if "jwks_file" not in issuer:
            continue
        keys[agency] = new_issuer_key(agency, issuer["issuer"])
        public = root / "rulebook" / issuer["jwks_file"]
        public.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_new(public, keys[agency].jwks_file(), private=False)
        write_new(root / "issuers" / f"{agency}.json", keys[agency].private_file(), private=True)
    return keys


def _write_tls(directory: Path, plan: _Plan, agencies: list[str]) -> None:
    hosts = [*_LOOPBACK_HOSTS, *_named(plan.host)]
    authority = make_authority("Development authority", hosts, plan.now_ms)
    write_credential(directory / "ca", authority)
    write_credential(directory / "server", make_server(authority, hosts, plan.now_ms))
    for agency in agencies:
        write_credential(directory / "clients" / agency, make_client(authority, agency, plan.now_ms))


def _named(host: str) -> tuple[str, ...]:
    """The host to put into the certificate: none for an address that means every interface."""
    try:
        return () if ipaddress.ip_address(host).is_unspecified else (host,)
    except ValueError:
        return (host,)


def _config(plan: _Plan) -> dict[str, object]:
    where = {"data_dir": "data"} if plan.kafka is None else {"kafka": _kafka(plan.kafka)}
    backend: dict[str, object] = {"kind": plan.backend, **where}
    return {
        "default_context": SAMPLES[0].context,
        "exchange": {"name": _EXCHANGE, "audience": _AUDIENCE},
        "listen": {"tls": plan.address(), "mtls": plan.address(offset=1)},
        "tls": {"certificate": "tls/server.pem", "key": "tls/server.key", "client_ca": "tls/ca.pem"},
        "backend": backend,
        "rulebook": {"directory": "rulebook"},
        "keys": {"directory": "keys"},
        "development": {"issuer_keys": "issuers"},
        "contexts": {sample.context: _context(sample, plan) for sample in SAMPLES},
    }


def _kafka(bootstrap: str) -> dict[str, object]:
    """A single node on this machine is a developer's; any other must be set up securely, or say that it is not."""
    settings: dict[str, object] = {"bootstrap": [bootstrap]}
    if split_address(bootstrap)[0] in _LOOPBACK_HOSTS:
        settings |= {"security_protocol": "PLAINTEXT", "insecure_plaintext": True}
        settings |= {"replication": 1, "min_insync_replicas": 1, "insecure_replication": True}
    return settings


def _context(sample: Sample, plan: _Plan) -> dict[str, object]:
    return {
        "endpoint": plan.address(reachable=True),
        "ca_file": "tls/ca.pem",
        "development": {
            "issuer_key": f"issuers/{sample.agency}.json",
            "subject": sample.subject,
            "roles": [sample.role],
            "purposes": [sample.purpose],
            "clearance": sample.clearance,
        },
    }
