"""Co-signing witnesses: in this process over TLS, or as the real program."""

from __future__ import annotations

import json
import signal
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from broker.adapters.witness.connections import ConnectionLimits
from broker.adapters.witness.http import HttpSettings, HttpWitness
from broker.adapters.witness.service import WitnessService
from broker.adapters.witness.state import FileWitnessStore
from broker.app.witness_config import WitnessConfig, load_witness_config
from broker.app.witness_setup import initialise_witness
from broker.core.checkpoint.note import VerifierKey
from broker.core.witness.cosigning import CosigningWitness, TrustedLog
from tests.fakes.clock import TurnedClock
from tests.fakes.witnessed_log import WitnessedLog

ENTENTE = Path(sys.executable).with_name("entente")
NAME = "witness.example/w1"
READY_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class ServedWitness:
    """A service that runs in this process: where, its key, its CA and what it keeps."""

    url: str
    key: VerifierKey
    ca_file: Path
    store: FileWitnessStore

    def client(self, name: str = "w1", **settings: object) -> HttpWitness:
        """A witness for a ledger, over TLS. `settings` are those of HttpSettings."""
        given: dict[str, object] = {
            "url": self.url,
            "key": self.key,
            "ca_file": self.ca_file,
            "timeout_s": 30.0,
        }
        return HttpWitness(name, HttpSettings(**(given | settings)))  # type: ignore[arg-type]

    def tls(self) -> ssl.SSLContext:
        """What a client of another kind needs to trust it."""
        return ssl.create_default_context(cafile=str(self.ca_file))


@asynccontextmanager
async def served(
    directory: Path, logs: Sequence[WitnessedLog | TrustedLog], limits: ConnectionLimits | None = None
) -> AsyncIterator[ServedWitness]:
    """A service over TLS on a free port, with its state in `directory`."""
    config = _configured(directory)
    assert config.tls is not None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(config.tls.certificate, config.tls.key)
    store = FileWitnessStore(config.state)
    store.open_for_writing()
    cosigner = config.cosigner()
    trusted = [log if isinstance(log, TrustedLog) else TrustedLog(log.origin, (log.key,)) for log in logs]
    witness = CosigningWitness(cosigner, trusted, store, TurnedClock())
    service = WitnessService(witness.add, context, limits)
    port = service.listen("127.0.0.1", 0)
    try:
        ca_file = directory / "tls" / "ca.pem"
        yield ServedWitness(f"https://127.0.0.1:{port}", cosigner.verifier_key, ca_file, store)
    finally:
        await service.close()
        store.close()


def _configured(directory: Path) -> WitnessConfig:
    if not directory.exists():
        initialise_witness(directory, NAME, "127.0.0.1:0", [])
    return load_witness_config(directory / "witness.toml")


class WitnessProcess:
    """`entente witness serve` as a process of its own, which may be killed and started again."""

    def __init__(self, directory: Path, port: int, logs: Sequence[WitnessedLog]) -> None:
        self.directory = directory
        trust = []
        for number, log in enumerate(logs):
            file = directory.parent / f"{directory.name}-{number}.vkey"
            file.write_text(f"{log.key.text()}\n")
            trust.append((log.origin, file))
        made = initialise_witness(directory, NAME, f"127.0.0.1:{port}", trust)
        self.config, self.key = made.config, VerifierKey.parse(made.vkey)
        self.url = f"https://127.0.0.1:{port}"
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> dict[str, object]:
        """Start it and wait until it says that it is ready; returns what it said."""
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [ENTENTE, "witness", "serve", "--config", self.config, "-o", "jsonl"],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the witness did not start: {self.log()[-2000:]}"
        ready: dict[str, object] = json.loads(line)
        return ready

    def kill(self) -> None:
        """kill -9, at once."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM; its exit code."""
        return self._end(signal.SIGTERM)

    def client(self) -> HttpWitness:
        """A witness for a ledger."""
        settings = HttpSettings(self.url, self.key, self.directory / "tls" / "ca.pem", 30.0)
        return HttpWitness("w1", settings)

    def log(self) -> str:
        """What it wrote to standard error."""
        return (self.directory / "log").read_text()

    def _end(self, number: signal.Signals) -> int:
        if self._process is None:
            return 0
        process, self._process = self._process, None
        process.send_signal(number)
        code = process.wait(READY_TIMEOUT_S)
        assert process.stdout is not None
        process.stdout.close()
        return code
