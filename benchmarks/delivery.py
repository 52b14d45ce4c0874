"""Records per second delivered on Kafka to 1, 10 and 100 subscriptions, and what the bare kafka-python consumer reads.

A real broker in a process of its own (TLS, OPA, ledger on Kafka), real subscribers in this one, 1 KB records, one run. The
subscriptions are spread over ten classes: three agencies with their clearances. "delivered" is the sum over all
subscriptions; its ratio is to the bare consumer, which reads the stored topic once and neither decides, redacts, accounts
nor encrypts. Speeds drift on a shared machine, so quote the ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
import orjson
from kafka import KafkaConsumer, TopicPartition
from rich.console import Console
from rich.progress import track
from rich.table import Table

from broker.adapters.clock import SystemClock
from broker.app.config import Config, load_config
from broker.app.initialise import initialise
from broker.app.tokens import token_for_context
from deploy.kafka.node import KafkaNode
from protos.entente.v1 import exchange_pb2, exchange_pb2_grpc
from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent

TOPIC = "vulnerabilities"
RECORD_BYTES = 1_024
KAFKA_PORT, BROKER_PORT = 28_092, 28_443
BATCH = 500
CLASSES = (
    *(("cyber-centre", "cyber-defence", clearance) for clearance in ("clear", "green", "amber", "red")),
    *(("highway-patrol", "law-enforcement", clearance) for clearance in ("clear", "green", "amber", "red")),
    *(("partner-cert", "cyber-defence", clearance) for clearance in ("clear", "green")),
)
"""Agency, purpose, clearance; all may read `clear` records of the topic."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One row: what was measured, records in sum, seconds."""

    what: str
    records: int
    seconds: float

    @property
    def rate(self) -> float:
        """Records per second."""
        return self.records / self.seconds


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print; progress goes to standard error."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.delivery", description=__doc__)
    parser.add_argument("--records", type=int, default=50_000, help="records in the topic (default 50000)")
    parser.add_argument("--subscriptions", type=int, nargs="+", default=[1, 10, 100])
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="entente-bench-") as directory:
        figures = _measure(Path(directory), options.records, options.subscriptions)
    _print(figures)


def _measure(directory: Path, records: int, subscriptions: Sequence[int]) -> list[Figure]:
    node = KafkaNode(directory / "kafka", port=KAFKA_PORT, controller_port=KAFKA_PORT + 1)
    node.start()
    try:
        listen = f"127.0.0.1:{BROKER_PORT}"
        initialise(directory / "exchange", listen=listen, backend="kafka", kafka=node.bootstrap)
        config = load_config(directory / "exchange" / "entente.toml")
        broker = _start_broker(directory / "exchange" / "entente.toml")
        try:
            return asyncio.run(
                _figures(config, directory / "exchange", node.bootstrap, records, subscriptions)
            )
        finally:
            broker.terminate()
            broker.wait(30)
    finally:
        node.stop()


def _start_broker(config: Path) -> subprocess.Popen[str]:
    entente = Path(sys.executable).with_name("entente")
    return subprocess.Popen([entente, "serve", "--config", config], stdout=subprocess.DEVNULL, text=True)


async def _figures(
    config: Config, directory: Path, bootstrap: str, records: int, subscriptions: Sequence[int]
) -> list[Figure]:
    credentials = grpc.ssl_channel_credentials((directory / "tls" / "ca.pem").read_bytes())
    options = [("grpc.max_receive_message_length", -1)]
    async with grpc.aio.secure_channel(config.listen.tls, credentials, options) as channel:
        await asyncio.wait_for(channel.channel_ready(), 60)
        figures = [await publish(channel, config, records)]
        figures.append(
            await asyncio.to_thread(_bare_consumer, bootstrap, f"{_prefix(config)}.records.{TOPIC}", records)
        )
        for count in subscriptions:
            figures.append(await deliver(channel, config, records, count))
        return figures


def _prefix(config: Config) -> str:
    return config.backend.kafka.prefix.rstrip(".") if config.backend.kafka else ""


async def publish(channel: grpc.aio.Channel, config: Config, records: int) -> Figure:
    """Publish so many records in batches."""
    stub = exchange_pb2_grpc.ExchangeStub(channel)
    metadata = metadata_of(config, "cyber-centre", None)
    begin = time.perf_counter()
    for first in track(range(0, records, BATCH), "publishing", console=Console(stderr=True), transient=True):
        batch = [record(number) for number in range(first, min(first + BATCH, records))]
        response = await stub.Publish(
            exchange_pb2.PublishRequest(topic=TOPIC, records=batch), metadata=metadata
        )
        if any(result.WhichOneof("outcome") != "accepted" for result in response.results):
            raise SystemExit(f"a record was refused: {response.results[0].refused.message}")
    return Figure("published", records, time.perf_counter() - begin)


def record(number: int) -> CloudEvent:
    """A record of RECORD_BYTES that every class may read."""
    document = {
        "cveID": f"CVE-2025-{number}",
        "vendorProject": "Example",
        "product": "Example",
        "shortDescription": "x" * (RECORD_BYTES - 250),
        "cwes": ["CWE-79"],
    }
    event = CloudEvent(
        id=str(number), source="//cyber-centre/bench", spec_version="1.0", type="gov.cisa.kev.v1"
    )
    event.text_data = orjson.dumps(document).decode()
    event.attributes["dataclassification"].ce_string = "clear"
    event.attributes["datacontenttype"].ce_string = "application/json"
    return event


def _bare_consumer(bootstrap: str, topic: str, records: int) -> Figure:
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, group_id=None, enable_auto_commit=False)
    partitions = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic))]
    consumer.assign(partitions)
    consumer.seek_to_beginning(*partitions)
    begin, read = time.perf_counter(), 0
    while read < records:
        read += sum(map(len, consumer.poll(1_000, max_records=5_000).values()))
    seconds = time.perf_counter() - begin
    consumer.close()
    return Figure("bare kafka-python consumer", read, seconds)


async def deliver(channel: grpc.aio.Channel, config: Config, records: int, count: int) -> Figure:
    """Let so many new subscriptions read the topic from its beginning."""
    begin = time.perf_counter()
    subscribers = (_subscribe(channel, config, records, *CLASSES[n % len(CLASSES)]) for n in range(count))
    received = await asyncio.gather(*subscribers)
    what = (
        f"delivered to {count} subscription{'s' if count > 1 else ''} in {min(count, len(CLASSES))} classes"
    )
    return Figure(what, sum(received), time.perf_counter() - begin)


async def _subscribe(
    channel: grpc.aio.Channel, config: Config, records: int, agency: str, purpose: str, clearance: str
) -> int:
    call = exchange_pb2_grpc.ExchangeStub(channel).Subscribe(metadata=metadata_of(config, agency, clearance))
    credit = exchange_pb2.Credit(records=records, bytes=256 << 20)
    await call.write(
        exchange_pb2.SubscribeRequest(open=exchange_pb2.Open(topic=TOPIC, purpose=purpose, credit=credit))
    )
    received = 0
    async for response in call:
        received += len(response.batch.deliveries)
        if received >= records:
            break
    call.cancel()
    return received


def metadata_of(config: Config, context: str, clearance: str | None) -> tuple[tuple[str, str], ...]:
    """A fresh token of a context, with another clearance if one is given."""
    chosen = config.contexts[context]
    if clearance is not None and chosen.development is not None:
        chosen = chosen.model_copy(
            update={"development": chosen.development.model_copy(update={"clearance": clearance})}
        )
    token = token_for_context(chosen, config.exchange.audience, SystemClock())
    return (("authorization", f"Bearer {token}"),)


def _print(figures: Sequence[Figure]) -> None:
    bare = next(figure for figure in figures if figure.what.startswith("bare"))
    table = Table(title=f"{RECORD_BYTES}-byte records on Kafka, one run")
    table.add_column("what")
    for heading in ("records", "records/s", "ratio to bare"):
        table.add_column(heading, justify="right")
    for figure in figures:
        table.add_row(
            figure.what, f"{figure.records:,}", f"{figure.rate:,.0f}", f"{figure.rate / bare.rate:.2f}"
        )
    Console().print(table)


if __name__ == "__main__":
    main()
