"""Serves an exchange: two listeners, health, reflection; drains on SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import signal
import ssl
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc
from grpc_health.v1 import health, health_pb2
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server
from grpc_reflection.v1alpha import reflection

from broker import __version__
from broker.adapters.clock import SystemClock
from broker.adapters.keyring import USES, FileKeys, read_private_file
from broker.app.administering import keeper_of
from broker.app.ahead import LookAhead
from broker.app.backends import open_stores
from broker.app.config import Config, Tls
from broker.app.connections import server_options
from broker.app.control import account_genesis, activate_directory, followed, membership
from broker.app.engines import Engines
from broker.app.exchange import Exchange, wire
from broker.app.foundation import Opened
from broker.app.ledger import opened_ledger
from broker.app.own_process import end_in_time
from broker.app.regime import RegimeBuilder
from broker.app.rulebook import RulebookDoor, find_opa
from broker.app.switching import Switching, put_in_force
from broker.errors import LedgerFenced
from broker.model.ledger import JsonValue
from broker.ports.clock import Clock
from broker.ports.keys import Keys
from broker.rpc.services import PACKAGE, generic_handlers
from connectors.garbage import spare_collections

# Imported for their descriptors, which reflection serves.
from protos.entente.v1 import (
    catalog_pb2,
    exchange_pb2,
    ledger_pb2,
    overlays_pb2,
    rulebook_pb2,
    subscriptions_pb2,
)

_MODULES = (exchange_pb2, subscriptions_pb2, catalog_pb2, ledger_pb2, rulebook_pb2, overlays_pb2)
_FILES = tuple(module.DESCRIPTOR for module in _MODULES)
SERVICES = tuple(f"{PACKAGE}.{name}" for file in _FILES for name in file.services_by_name)

log = logging.getLogger(__name__)

TLS_KEY_BYTES = 64 << 10
STOP_GRACE_S = 1.0
SWITCH_INTERVAL_S = 0.0005
"""How long a thread may keep the interpreter while others wait.

With Python's default of 5 ms the event loop holds up the threads that carry ledger entries to Kafka, and so every release.
"""


@dataclass(frozen=True, slots=True)
class Ready:
    """Where the exchange listens, under which revision and engine, and what its configuration leaves insecure."""

    tls_address: str
    mtls_address: str | None
    revision: str
    engine: str
    warnings: tuple[str, ...]
    fenced: asyncio.Future[LedgerFenced]
    """Done once the ledger is no longer this instance's: it has to stop."""


async def serve(config: Config, *, ready: Callable[[Ready], None] | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then drain.

    `ready` is called once everything answers. Raises RulebookRefused, LedgerRefused, StorageUnavailable, KeysRefused,
    OpaStartFailed, OSError if an address cannot be used, and LedgerFenced if another instance took the ledger meanwhile:
    then this process is ended if it is still there after END_LIMIT_S.
    """
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    try:
        async with running(config) as report:
            spare_collections()
            report.fenced.add_done_callback(end_in_time)
            if ready is not None:
                ready(report)
            asked = asyncio.ensure_future(stopped.wait())
            await asyncio.wait((asked, report.fenced), return_when=asyncio.FIRST_COMPLETED)
            asked.cancel()
        if report.fenced.done():
            raise report.fenced.result()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


@asynccontextmanager
async def running(config: Config) -> AsyncIterator[Ready]:
    """An exchange that serves inside the block and is drained at its end."""
    for name in insecure_settings(config):
        log.warning("INSECURE: %s is set; never set it outside development", name)
    clock = SystemClock()
    keys = FileKeys.open(config.keys.directory)
    stores = await open_stores(config.backend, config.ledger, clock, keys)
    try:
        opa = find_opa(config.rulebook.opa)
        control = await followed(config, stores, clock)
        door = RulebookDoor(opa, stores.rulebooks)
        engines = Engines(opa, door, ready_mb=config.control.ready_mb)
        builder = RegimeBuilder(config, stores, keys, clock, engines)
        async with (
            put_in_force(
                builder,
                door.at_start(config.rulebook, control.state.activations.revision),
                control.state.overlays.overlays,
            ) as switching,
            # Before the ledger is claimed: a second start by mistake fails here, and stops nobody.
            _bound(config) as (server, tls, mtls),
            opened_ledger(config, stores.ledger_log, keys, clock) as ledger,
        ):
            opened = Opened(config, stores, ledger, switching.in_force, control, opa, keys, clock)
            async with _agreeing(opened, switching, door) as exchange, _serving(server, exchange, clock):
                rules, warnings = switching.in_force.present.regime.rules, insecure_settings(config)
                yield Ready(tls, mtls, rules.revision, rules.engine, warnings, ledger.writer.fenced)
    finally:
        await stores.close()


@asynccontextmanager
async def _agreeing(opened: Opened, switching: Switching, door: RulebookDoor) -> AsyncIterator[Exchange]:
    """The exchange, as a member of which nothing older can be released than what is agreed on."""
    config, ledger = opened.config, opened.ledger
    exchange = wire(opened)
    switching.attach(exchange.fanout)
    await ledger.account_start(exchange.evidence, _start(config, opened.keys))
    await account_genesis(
        exchange.control, exchange.evidence, keeper_of(opened), opened.in_force.present.regime
    )
    ahead, revision = LookAhead(door, switching.engines), opened.in_force.present.regime.rules.revision
    async with membership(opened.control, exchange.control, switching, ledger, revision, ahead):
        if config.rulebook.insecure_from_directory:
            revision = (await door.from_directory(config.rulebook.directory)).revision.id
            await activate_directory(exchange.control, exchange.evidence, revision)
        await exchange.proposing.settle(config.ledger.instance)
        yield exchange


@asynccontextmanager
async def _bound(config: Config) -> AsyncIterator[tuple[grpc.aio.Server, str, str | None]]:
    """A server that holds its addresses, and answers once it is started."""
    listeners = 1 if config.listen.mtls is None else 2
    server = grpc.aio.server(options=server_options(config.limits, listeners))
    try:
        yield server, *_bind(server, config)
    finally:
        # gRPC gives up the addresses only of a server that was started once.
        with contextlib.suppress(grpc.aio.UsageError):
            await server.start()
        await server.stop(None)


@asynccontextmanager
async def _serving(server: grpc.aio.Server, exchange: Exchange, clock: Clock) -> AsyncIterator[None]:
    server.add_generic_rpc_handlers(generic_handlers(exchange.table, exchange.interceptors, clock))
    standing = health.aio.HealthServicer()
    add_HealthServicer_to_server(standing, server)
    names = (*SERVICES, "grpc.health.v1.Health", reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)
    await server.start()
    for service in ("", *SERVICES):
        await standing.set(service, health_pb2.HealthCheckResponse.SERVING)
    flusher = asyncio.ensure_future(exchange.ledger_interceptor.flush_each_minute())
    announcing = asyncio.ensure_future(exchange.announcer.run())
    try:
        yield
    finally:
        await standing.enter_graceful_shutdown()
        await exchange.subscribe.drain()
        await server.stop(STOP_GRACE_S)
        await exchange.fanout.close()
        await exchange.subscribe.settle()
        await exchange.publisher.settle()
        await exchange.proposing.close()
        announcing.cancel()
        await asyncio.wait([announcing])
        flusher.cancel()
        await exchange.ledger_interceptor.flush()
        await exchange.audit_index.close()


def _bind(server: grpc.aio.Server, config: Config) -> tuple[str, str | None]:
    """Both listeners; grpcio can only require or ignore client certificates, hence two."""
    _check_pair(config.tls)
    key = read_private_file(config.tls.key, TLS_KEY_BYTES)
    pair = (key, config.tls.certificate.read_bytes())
    tls = _add(server, config.listen.tls, grpc.ssl_server_credentials([pair]))
    if config.listen.mtls is None or config.tls.client_ca is None:
        return tls, None
    credentials = grpc.ssl_server_credentials(
        [pair], root_certificates=config.tls.client_ca.read_bytes(), require_client_auth=True
    )
    return tls, _add(server, config.listen.mtls, credentials)


def _check_pair(tls: Tls) -> None:
    """Raises OSError for files that gRPC would refuse without saying why."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tls.certificate, tls.key, password="")
    except ssl.SSLError:
        message = "is no PEM key without a password, or not the key of tls.certificate; correct tls.key"
        raise OSError(errno.EINVAL, message, str(tls.key)) from None


def _add(server: grpc.aio.Server, listen: str, credentials: grpc.ServerCredentials) -> str:
    """The address with its real port, as port 0 asks for a free one; raises OSError."""
    try:
        port = server.add_secure_port(listen, credentials)
    except RuntimeError:
        raise OSError(
            errno.EADDRNOTAVAIL, "cannot listen there; choose another address or port", listen
        ) from None
    return f"{listen.rpartition(':')[0]}:{port}"


def insecure_settings(config: Config) -> tuple[str, ...]:
    """The names of the insecure options that are set, for the warning at start and for the ledger."""
    sections = {name: getattr(config, name).model_dump() for name in ("control", "jwks", "rulebook")}
    if config.backend.kind == "kafka" and config.backend.kafka is not None:
        sections["backend.kafka"] = config.backend.kafka.model_dump()
    for witness in config.ledger.witnesses:
        sections[f"ledger.witnesses.{witness.name}"] = witness.model_dump()
        if witness.kafka is not None:
            sections[f"ledger.witnesses.{witness.name}.kafka"] = witness.kafka.model_dump()
    return tuple(
        f"{section}.{name}"
        for section, settings in sections.items()
        for name, value in settings.items()
        if name.startswith("insecure_") and value
    )


def _start(config: Config, keys: Keys) -> dict[str, JsonValue]:
    """What the ledger says of a start: nothing here is secret."""
    return {
        "version": __version__,
        "exchange": config.exchange.name,
        "backend": config.backend.kind,
        "insecure": list(insecure_settings(config)),
        "limits": config.limits.model_dump(mode="json"),
        "keys": {use: keys.current(use)[0] for use in USES},
    }
