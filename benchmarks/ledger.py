"""What the ledger costs on Kafka: deliveries with it beside deliveries with one that keeps nothing, in one run.

Two brokers share one Kafka and one topic of 1 KB records; one writes its ledger there, the other's ledger is a no-op. They
deliver in turn, so that the machine's drift meets both; each figure is the median over the rounds. Latency is from the
call of Publish to the arrival of the record at a live subscriber, one record at a time, in turn as well, and comes first,
so that Kafka is warm when the deliveries are measured.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import grpc
import tomli_w
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.delivery import TOPIC, deliver, metadata_of, publish, record
from broker.app.config import Config, load_config
from broker.app.initialise import initialise
from deploy.kafka.node import KafkaNode
from protos.entente.v1 import exchange_pb2, exchange_pb2_grpc

KAFKA_PORT, BROKER_PORT = 28_192, 28_543
LATENCY_FIRST = 100_000_000
"""Numbers of the records that are published one by one, beyond those of the topic."""


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two brokers: its configuration, and the channel to it."""

    name: str
    config: Config
    channel: grpc.aio.Channel


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print; progress goes to standard error."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ledger", description=__doc__)
    parser.add_argument("--records", type=int, default=20_000, help="records in the topic (default 20000)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds for each number of subscriptions")
    parser.add_argument("--subscriptions", type=int, nargs="+", default=[1, 100])
    parser.add_argument("--singles", type=int, default=500, help="records for the latency (default 500)")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="entente-bench-") as directory, ExitStack() as stack:
        node = KafkaNode(Path(directory) / "kafka", port=KAFKA_PORT, controller_port=KAFKA_PORT + 1)
        node.start()
        stack.callback(node.stop)
        with_ledger, without = _configurations(Path(directory) / "exchange", node.bootstrap)
        entente = str(Path(sys.executable).with_name("entente"))
        _start(stack, [entente, "serve", "--config", str(with_ledger)])
        _start(stack, [sys.executable, "-m", "benchmarks.without_ledger", str(without)])
        asyncio.run(_measure(with_ledger, without, options))


def _configurations(directory: Path, bootstrap: str) -> tuple[Path, Path]:
    """One exchange, and a second configuration of it: another instance on the ports that follow."""
    initialise(directory, listen=f"127.0.0.1:{BROKER_PORT}", backend="kafka", kafka=bootstrap)
    first, second = directory / "entente.toml", directory / "second.toml"
    document = load_config(first).model_dump(mode="json", exclude_none=True)
    listen = {"tls": f"127.0.0.1:{BROKER_PORT + 2}", "mtls": f"127.0.0.1:{BROKER_PORT + 3}"}
    document |= {"listen": listen, "ledger": document["ledger"] | {"instance": "second"}}
    second.write_text(tomli_w.dumps(document))
    return first, second


def _start(stack: ExitStack, command: Sequence[str]) -> None:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    stack.callback(process.wait, 30)
    stack.callback(process.terminate)


async def _measure(with_ledger: Path, without: Path, options: argparse.Namespace) -> None:
    authority = (with_ledger.parent / "tls" / "ca.pem").read_bytes()
    credentials = grpc.ssl_channel_credentials(authority)
    sides = []
    for name, path in (("with the ledger", with_ledger), ("with a no-op ledger", without)):
        config = load_config(path)
        channel = grpc.aio.secure_channel(
            config.listen.tls, credentials, [("grpc.max_receive_message_length", -1)]
        )
        await asyncio.wait_for(channel.channel_ready(), 60)
        sides.append(Side(name, config, channel))
    await publish(sides[0].channel, sides[0].config, options.records)
    table = Table(title=f"{options.records:,} records of 1 KB on Kafka, median of {options.rounds} rounds")
    for heading in ("", *(side.name for side in sides), "ratio"):
        table.add_column(heading, justify="right" if heading else "left")
    with Progress(console=Console(stderr=True), transient=True) as progress:
        # First: a Kafka that has just started spends four times as long on a request, and an exchange runs for months.
        p50 = await _latencies(sides, options.singles, progress)
        for count in options.subscriptions:
            rates = await _rates(sides, options.records, count, options.rounds, progress)
            ratio = statistics.median(a / b for a, b in zip(*rates, strict=True))
            shown = (f"{statistics.median(row):,.0f}" for row in rates)
            table.add_row(f"records/s to {count}", *shown, f"{ratio:.2f}")
    table.add_row("p50 latency, ms", *(f"{ms:.2f}" for ms in p50), f"+{p50[0] - p50[1]:.2f} ms")
    Console().print(table)
    for side in sides:
        await side.channel.close()


async def _rates(
    sides: Sequence[Side], records: int, count: int, rounds: int, progress: Progress
) -> list[list[float]]:
    """Records per second of each side, round by round, the first of which is not counted; who begins alternates."""
    rates: list[list[float]] = [[] for _ in sides]
    for number in progress.track(range(rounds + 1), description=f"{count} subscriptions"):
        for index in (0, 1) if number % 2 else (1, 0):
            figure = await deliver(sides[index].channel, sides[index].config, records, count)
            if number:
                rates[index].append(figure.rate)
    return rates


async def _latencies(sides: Sequence[Side], singles: int, progress: Progress) -> list[float]:
    streams = [await _live(side) for side in sides]
    taken: list[list[float]] = [[] for _ in sides]
    for number in progress.track(range(singles), description="latency"):
        for index, side in enumerate(sides):
            stub = exchange_pb2_grpc.ExchangeStub(side.channel)
            request = exchange_pb2.PublishRequest(
                topic=TOPIC, records=[record(LATENCY_FIRST + 2 * number + index)]
            )
            begin = time.perf_counter()
            publishing = asyncio.ensure_future(
                stub.Publish(request, metadata=metadata_of(side.config, "cyber-centre", None))
            )
            arrivals = [_arrival(stream) for stream in streams]
            moments = await asyncio.gather(*arrivals)
            await publishing
            taken[index].append((moments[index] - begin) * 1000)
    for stream in streams:
        stream.cancel()
    return [statistics.median(row) for row in taken]


async def _live(
    side: Side,
) -> grpc.aio.StreamStreamCall[exchange_pb2.SubscribeRequest, exchange_pb2.SubscribeResponse]:
    call = exchange_pb2_grpc.ExchangeStub(side.channel).Subscribe(
        metadata=metadata_of(side.config, "partner-cert", "clear")
    )
    opening = exchange_pb2.Open(
        topic=TOPIC,
        purpose="cyber-defence",
        position=exchange_pb2.START_POSITION_LATEST,
        credit=exchange_pb2.Credit(records=1_000_000, bytes=256 << 20),
    )
    await call.write(exchange_pb2.SubscribeRequest(open=opening))
    await call.read()  # opened
    return call


async def _arrival(
    stream: grpc.aio.StreamStreamCall[exchange_pb2.SubscribeRequest, exchange_pb2.SubscribeResponse],
) -> float:
    """When the next batch comes; both sides see each record, so that both stand at the same place."""
    while True:
        response = await stream.read()
        if isinstance(response, exchange_pb2.SubscribeResponse) and response.HasField("batch"):
            return time.perf_counter()


if __name__ == "__main__":
    main()
