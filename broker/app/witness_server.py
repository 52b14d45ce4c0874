"""Runs a co-signing witness until it is told to stop, and tells what it holds."""

from __future__ import annotations

import asyncio
import logging
import signal
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from broker.adapters.clock import SystemClock
from broker.adapters.keyring import KeysRefused, read_private_file
from broker.adapters.witness.service import WitnessService
from broker.adapters.witness.state import FileWitnessStore
from broker.app.config import split_address
from broker.app.witness_config import ServerTls, WitnessConfig
from broker.core.checkpoint.checkpoint import unverified_checkpoint
from broker.core.checkpoint.note import NoteInvalid
from broker.core.witness.cosigning import CosigningWitness
from broker.errors import StorageUnavailable

log = logging.getLogger(__name__)

_TLS_KEY_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class WitnessReady:
    """Where the witness listens, its name and public key, and for how many logs."""

    address: str
    name: str
    vkey: str
    logs: int


@dataclass(frozen=True, slots=True)
class Holding:
    """What is held of one log: the newest checkpoint's size, root and time of keeping (None: nothing), and how many
    pieces of evidence there are of checkpoints that did not fit."""

    origin: str
    size: int | None
    root: bytes | None
    since_ms: int | None
    misfits: int


async def serve_witness(
    config: WitnessConfig, *, ready: Callable[[WitnessReady], None] | None = None
) -> None:
    """Serve until SIGTERM or SIGINT.

    `ready` is called once it answers. Raises KeysRefused, StorageUnavailable for a state that is damaged or in use, or
    OSError if the address or the certificate cannot be used.
    """
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    store = FileWitnessStore(config.state)
    try:
        cosigner = config.cosigner()
        store.open_for_writing()
        witness = CosigningWitness(cosigner, [each.trusted for each in config.logs], store, SystemClock())
        witness.check_held()
        if config.tls is None:
            log.warning("INSECURE: insecure_http_loopback is set; never set it outside development")
        service = WitnessService(witness.add, None if config.tls is None else _tls(config.tls))
        try:
            address = _listen(service, config.listen)
            if ready is not None:
                ready(WitnessReady(address, config.name, cosigner.verifier_key.text(), len(config.logs)))
            await stopped.wait()
        finally:
            await service.close()
    finally:
        store.close()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def holdings(config: WitnessConfig) -> Sequence[Holding]:
    """What the witness holds of each configured log, also while it runs. Raises StorageUnavailable."""
    store = FileWitnessStore(config.state)
    return [_holding(store, each.origin) for each in config.logs]


def cosigned_checkpoint(config: WitnessConfig, origin: str) -> bytes | None:
    """The newest checkpoint of a log as a signed note that this witness cosigned now, or None; also while it runs.

    Raises OriginUnknown, KeysRefused, StorageUnavailable.
    """
    logs = [each.trusted for each in config.logs]
    witness = CosigningWitness(config.cosigner(), logs, FileWitnessStore(config.state), SystemClock())
    witness.check_held()
    return witness.statement(origin)


def _holding(store: FileWitnessStore, origin: str) -> Holding:
    note, misfits = store.held(origin), store.misfits(origin)
    if note is None:
        return Holding(origin, None, None, None, misfits)
    try:
        held = unverified_checkpoint(note)
    except NoteInvalid as error:
        raise StorageUnavailable(f"what is held of {origin}: {error}; restore the file") from None
    return Holding(origin, held.size, held.root, store.held_since_ms(origin), misfits)


def _listen(service: WitnessService, listen: str) -> str:
    host, port = split_address(listen)
    try:
        chosen = service.listen(host, port)
    except OSError as error:
        raise OSError(error.errno, error.strerror, listen) from None
    return f"[{host}]:{chosen}" if ":" in host else f"{host}:{chosen}"


def _tls(tls: ServerTls) -> ssl.SSLContext:
    read_private_file(tls.key, _TLS_KEY_BYTES)  # only to refuse one that other users may read
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(tls.certificate, tls.key)
    except ssl.SSLError:
        remedy = "correct tls.certificate or tls.key"
        raise KeysRefused(f"{tls.certificate}: is not the certificate of {tls.key}; {remedy}") from None
    return context
