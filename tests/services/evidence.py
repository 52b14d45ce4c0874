"""What a broker's clients and witnesses keep beside its ledger, and the auditor who holds the ledger against that."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from connectors.receipts import ReceiptFile, TopicReceipts
from protos.entente.v1 import catalog_pb2, catalog_pb2_grpc
from tests.e2e.here import Done, environment, run_here
from tests.services.broker import ENTENTE, BrokerProcess

TOPIC = "vulnerabilities"


def give_witness(broker: BrokerProcess, file: Path, *, instance: str = "broker") -> None:
    """Let the broker, from its next start on, keep its checkpoints in a file too, which it finds there."""
    file.touch()
    witness = {"name": "archive", "kind": "file", "path": str(file)}
    broker.change({"ledger": {"instance": instance, "witnesses": [witness]}})


@contextmanager
def receipts(file: Path) -> Iterator[Receipts]:
    """A directory's worth of them: one file for each principal."""
    kept = Receipts(file)
    try:
        yield kept
    finally:
        kept.close()


class Receipts:
    """Files of receipts, by the principal's context."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        self._directory = directory
        self._open: dict[str, TopicReceipts] = {}

    async def of(self, broker: BrokerProcess, context: str) -> TopicReceipts:
        """The open file of one principal, who asks a running broker who it is."""

        async def identify() -> catalog_pb2.WhoAmIResponse:
            async with broker.channel() as channel:
                stub = catalog_pb2_grpc.CatalogStub(channel)
                request = catalog_pb2.WhoAmIRequest()
                answer: catalog_pb2.WhoAmIResponse = await stub.WhoAmI(
                    request, metadata=broker.metadata(context)
                )
                return answer

        if context not in self._open:
            file = ReceiptFile(self._directory / f"{context}.jsonl", identify)
            self._open[context] = TopicReceipts(file, TOPIC)
            await self._open[context].open()
        return self._open[context]

    @property
    def files(self) -> list[Path]:
        """All of them."""
        return sorted(self._directory.glob("*.jsonl"))

    def close(self) -> None:
        """Nothing is kept any more."""
        for file in self._open.values():
            file.close()


@dataclass(frozen=True)
class Auditor:
    """Somebody with an exchange's public key, its receipt keys and what a witness kept.

    ledger: the options that say where the ledger is; time_zone: where the auditor works, None for the test's own.
    """

    exchange: Path
    ledger: tuple[str, ...]
    time_zone: str | None = None

    @classmethod
    def of(cls, broker: BrokerProcess) -> Auditor:
        """On the broker's data directory, or on Kafka itself."""
        kafka = broker.config.backend.kafka
        if kafka is None:
            return cls(broker.directory, ("--ledger", str(broker.directory / "data")))
        plain = ("--kafka-protocol", "PLAINTEXT", "--insecure-plaintext")
        return cls(
            broker.directory, ("--ledger", ",".join(kafka.bootstrap), "--kafka-prefix", kafka.prefix, *plain)
        )

    def ask(self, *arguments: str | Path, code: int = 0) -> Any:
        """One command of `entente audit`, which has to end so; its answer."""
        command = ["audit", *arguments, *self.ledger, "-o", "json"]
        ran = run_here(self.exchange, *command) if self.time_zone is None else self._elsewhere(command)
        assert ran.returncode == code, f"{arguments[0]}: {ran.returncode}: {ran.stderr}{ran.stdout[:2000]}"
        return json.loads(ran.stdout)

    def _elsewhere(self, command: list[str | Path]) -> Done:
        """As a process of its own, since the C library reads the time zone once."""
        ran = subprocess.run(
            [ENTENTE, *command],
            check=False,
            capture_output=True,
            text=True,
            cwd=self.exchange,
            env=environment() | {"TZ": self.time_zone or "UTC"},
            timeout=900,
        )
        return Done(ran.returncode, ran.stdout, ran.stderr)

    def verified(self, *witnesses: Path, code: int = 0) -> Any:
        """What `verify` says with the key and the witnesses' files."""
        after = [argument for file in witnesses for argument in ("--after", file)]
        return self.ask("verify", "--public-key", self.exchange / "keys/ledger.vkey", *after, code=code)

    def exported(self, directory: Path) -> Auditor:
        """The same on an export that is made now."""
        self.ask("export", "--out", directory)
        return replace(self, ledger=("--ledger", str(directory)))

    def finds_all_sound(self, files: Iterable[Path]) -> int:
        """Hold every receipt against the ledger; how many there were."""
        count = 0
        for file in files:
            lines = file.read_bytes().count(b"\n")
            checked = self.ask("check-receipts", file, "--receipt-keys", self.exchange / "keys/receipt.keys")
            assert checked == {"checked": lines, "sound": lines, "findings": []}, checked["findings"][:5]
            count += lines
        return count


def received(files: Iterable[Path]) -> int:
    """How many deliveries the receipts of these files are about."""
    lines = (json.loads(line) for file in files for line in file.read_text().splitlines())
    return sum(len(line["contents"]) for line in lines if line["kind"] == "delivery")
