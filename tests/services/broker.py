"""A real broker in a process of its own, as `entente serve` runs it, and what tests ask of it."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import tomllib
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import grpc
import tomli_w

from broker.adapters.clock import SystemClock
from broker.app.config import Config, load_config
from broker.app.initialise import DEFAULT_RULEBOOK, initialise
from broker.app.tokens import token_for_context
from protos.entente.v1 import exchange_pb2, exchange_pb2_grpc
from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent
from tests.services.ports import free_port

ENTENTE = Path(sys.executable).with_name("entente")
TOKEN_REUSE_S = 600.0

Metadata = tuple[tuple[str, str], ...]


class BrokerProcess:
    """One exchange's directory and the broker that serves it; can be stopped, killed and started again.

    With `kafka`, HOST:PORT, its topics have a prefix of their own there, and it waits for Kafka for two seconds at most.
    """

    def __init__(
        self,
        directory: Path,
        *,
        kafka: str | None = None,
        limits: Mapping[str, object] | None = None,
        rulebook: Path = DEFAULT_RULEBOOK,
    ) -> None:
        if not directory.exists():
            backend: Literal["embedded", "kafka"] = "embedded" if kafka is None else "kafka"
            initialise(directory, f"127.0.0.1:{free_port(2)}", backend, kafka, rulebook=rulebook)
        self.directory = directory
        self.file = directory / "entente.toml"
        if kafka is not None:
            self.change(
                {"backend": self._backend_with(prefix=f"test-{uuid.uuid4().hex[:12]}", timeout_s=2.0)}
            )
        if limits:
            self.change({"limits": dict(limits)})
        self._process: subprocess.Popen[str] | None = None
        self._tokens: dict[str, tuple[float, Metadata]] = {}

    @classmethod
    def beside(cls, other: BrokerProcess, directory: Path) -> BrokerProcess:
        """A second instance of the same exchange: same stores on Kafka, same keys and rulebook, other ports and name."""
        shutil.copytree(other.directory, directory)
        port = free_port(2)
        second = cls(directory)
        listen = {"tls": f"127.0.0.1:{port}", "mtls": f"127.0.0.1:{port + 1}"}
        second.change({"listen": listen, "ledger": {"instance": "second"}})
        return second

    @property
    def kafka_prefix(self) -> str:
        """What the names of its Kafka topics begin with."""
        kafka = self.config.backend.kafka
        assert kafka is not None
        return kafka.prefix

    def _backend_with(self, **kafka: object) -> dict[str, object]:
        backend = tomllib.loads(self.file.read_text())["backend"]
        return {**backend, "kafka": {**backend["kafka"], **kafka}}

    @property
    def config(self) -> Config:
        """As the file has it now."""
        return load_config(self.file)

    @property
    def pid(self) -> int:
        """The broker's process id."""
        assert self._process is not None
        return self._process.pid

    def change(self, changes: Mapping[str, object]) -> None:
        """Replace top-level sections of the configuration file, for the next start."""
        document = tomllib.loads(self.file.read_text()) | dict(changes)
        self.file.write_text(tomli_w.dumps(document))

    def restore_from(self, prefix: str) -> None:
        """From the next start on, use the topics on Kafka whose names begin so."""
        self.change({"backend": self._backend_with(prefix=prefix)})

    def start(self, file_limit_bytes: int | None = None) -> None:
        """Start it and wait until it says that it is ready; `file_limit_bytes` bounds each file that it writes."""
        with (self.directory / "broker.log").open("ab") as log:
            self._process = subprocess.Popen(
                [ENTENTE, "serve", "--config", self.file, "-o", "jsonl"],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        if file_limit_bytes is not None:
            self.limit_files(file_limit_bytes)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self.kill()
        assert line, f"the broker did not start: {self.log()[-2000:]}"
        assert json.loads(line)["ready"] is True

    def limit_files(self, limit_bytes: int) -> None:
        """Bound the size of each file that the running broker writes, as a full disk would (RLIMIT_FSIZE)."""
        resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (limit_bytes, resource.RLIM_INFINITY))

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, and wait for nothing."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """kill -9, at once."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._close_output()

    def stop(self) -> int:
        """SIGTERM, and wait until it has drained; its exit code. Nothing if it does not run."""
        if self._process is None or self._process.poll() is not None:
            return 0
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(30)
        self._close_output()
        return code

    def wait(self) -> int:
        """Wait until it ends by itself; its exit code."""
        assert self._process is not None
        code = self._process.wait(60)
        self._close_output()
        return code

    def _close_output(self) -> None:
        assert self._process is not None and self._process.stdout is not None
        self._process.stdout.close()

    def log(self) -> str:
        """What the broker wrote to standard error."""
        return (self.directory / "broker.log").read_text()

    def children(self) -> list[int]:
        """Process ids of its children that run OPA."""
        found = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return [int(pid) for pid in found if b"opa" in _command(pid)]

    def resident_bytes(self) -> int:
        """The broker's resident memory."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def metadata(self, context: str) -> Metadata:
        """Call metadata with a token of one of the sample principals, of an hour, not older than ten minutes."""
        made_at, metadata = self._tokens.get(context, (0.0, ()))
        if not metadata or time.monotonic() - made_at > TOKEN_REUSE_S:
            config = self.config
            token = token_for_context(config.contexts[context], config.exchange.audience, SystemClock())
            metadata = (("authorization", f"Bearer {token}"),)
            self._tokens[context] = time.monotonic(), metadata
        return metadata

    def credentials(self) -> grpc.ChannelCredentials:
        """What a client needs to trust it."""
        return grpc.ssl_channel_credentials((self.directory / "tls" / "ca.pem").read_bytes())

    @asynccontextmanager
    async def channel(self) -> AsyncIterator[grpc.aio.Channel]:
        """A TLS channel to it, connected anew however often it was down."""
        options = [
            ("grpc.max_receive_message_length", -1),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 500),
        ]
        async with grpc.aio.secure_channel(self.config.listen.tls, self.credentials(), options) as channel:
            yield channel

    async def publish(
        self,
        channel: grpc.aio.Channel,
        records: Sequence[CloudEvent],
        *,
        topic: str = "vulnerabilities",
        context: str = "cyber-centre",
    ) -> list[exchange_pb2.PublishResult]:
        """Publish, vulnerabilities as cyber-centre unless told; raises grpc.aio.AioRpcError."""
        request = exchange_pb2.PublishRequest(topic=topic, records=records)
        stub = exchange_pb2_grpc.ExchangeStub(channel)
        response = await stub.Publish(request, metadata=self.metadata(context), timeout=60)
        return list(response.results)


def vulnerability(
    record_id: str, *, category: str | None = None, filler_bytes: int = 0, partition_key: str | None = None
) -> CloudEvent:
    """A record of the sample type, as cyber-centre would publish it."""
    event = CloudEvent(id=record_id, source="//cyber-centre/test", spec_version="1.0", type="gov.cisa.kev.v1")
    event.text_data = json.dumps({"cveID": record_id, "shortDescription": "x" * filler_bytes})
    event.attributes["dataclassification"].ce_string = "clear"
    event.attributes["datacontenttype"].ce_string = "application/json"
    if category is not None:
        event.attributes["datacategory"].ce_string = category
    if partition_key is not None:
        event.attributes["partitionkey"].ce_string = partition_key
    return event


def opening(*, records: int, name: str = "", size_bytes: int = 64 << 20) -> exchange_pb2.SubscribeRequest:
    """The first message of a stream of vulnerabilities for partner-cert."""
    credit = exchange_pb2.Credit(records=records, bytes=size_bytes)
    return exchange_pb2.SubscribeRequest(
        open=exchange_pb2.Open(
            topic="vulnerabilities", purpose="cyber-defence", subscription=name, credit=credit
        )
    )


def reason(error: grpc.aio.AioRpcError) -> str:
    """The catalogue's reason of a failed call; "" if it carries none, as when the connection broke."""
    from google.rpc import error_details_pb2
    from grpc_status import rpc_status

    status = rpc_status.from_call(error)
    if status is None:
        return ""
    info = error_details_pb2.ErrorInfo()
    status.details[0].Unpack(info)
    return str(info.reason)


def _command(pid: str) -> bytes:
    """A process's first argument; b"" once it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]
    except OSError:
        return b""
