"""From an agency's Kafka over the exchange into another agency's Kafka, against a bare copier between the two.

Three real clusters (the agencies' and the exchange's own), a real broker (TLS, OPA, ledger on Kafka), a source and a sink as
`entente connect run` runs them, a process each, and 1 KB records. The copier is kafka-python alone: it consumes a batch,
produces it in one transaction and commits the offsets, and neither maps, decides, redacts, accounts nor encrypts. Both
copy the same records, in turn. The bar is a ratio of 0.5.

Where there are fewer cores than busy processes, what is measured is the sum of their work. So the processor time of each
process is printed too: the greatest of them is what a record costs where each has a core of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import tomli_w
from confluent_kafka import Producer, admin
from kafka import KafkaConsumer, KafkaProducer
from rich.console import Console
from rich.table import Table

from broker.adapters.clock import SystemClock
from broker.app.config import load_config
from broker.app.initialise import initialise
from broker.app.tokens import token_for_context
from broker.demo.process import free_port_pair
from connectors.runtime.control_client import ControlClient
from deploy.kafka.node import KafkaNode

TOPIC = "vulnerabilities"
SOURCE_TOPIC, COPIED, RECEIVED = "kev", "copied", "received"
PARTITIONS, KEYS = 3, 1_000
RECORD_BYTES = 1_024
COPIER_BATCH = 2_000
TIMEOUT_S = 300.0
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Round:
    """Records a second, and microseconds of processor time for each record, by process."""

    rate: float
    cpu_us: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Place:
    """What runs: the clusters by name, and the process ids by which processor time is told."""

    clusters: Mapping[str, str]
    pids: Mapping[str, int]
    source_state: Path
    sink_state: Path


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print; progress goes to standard error."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.connectors", description=__doc__)
    parser.add_argument("--records", type=int, default=30_000, help="records a round (default 30000)")
    parser.add_argument("--rounds", type=int, default=3, help="after one to warm up (default 3)")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="entente-bench-") as directory, running(Path(directory)) as place:
        rounds = asyncio.run(_rounds(place, options.records, options.rounds))
    _print(rounds, options.records)


async def _rounds(place: Place, records: int, count: int) -> list[tuple[Round, Round]]:
    found = []
    async with ControlClient(place.source_state) as source, ControlClient(place.sink_state) as sink:
        for number in range(count + 1):
            await source.pause("source")
            fill(place.clusters["agency A"], number * records, records)
            copied = await asyncio.to_thread(copy, place, records)
            before = (await sink.status("sink")).total.records

            async def through(until: int = before + records) -> None:
                await source.resume("source")
                async with asyncio.timeout(TIMEOUT_S):
                    # Each question takes the sink's own time, so it is asked often only towards the end.
                    while (left := until - (await sink.status("sink")).total.records) > 0:  # noqa: ASYNC110
                        await asyncio.sleep(0.02 if left < records / 20 else 0.2)

            with measured(place, records) as answer:
                await through()
            found.append((copied, answer()))
            _tell(f"round {number}: copier {copied.rate:,.0f}/s, exchange {answer().rate:,.0f}/s")
    return found[1:]


def fill(bootstrap: str, first: int, count: int) -> None:
    """Put records into the source agency's topic."""
    producer = Producer(
        {"bootstrap.servers": bootstrap, "linger.ms": 5, "queue.buffering.max.messages": count}
    )
    for number in range(first, first + count):
        producer.produce(SOURCE_TOPIC, _value(number), f"key-{number % KEYS}")
    assert producer.flush(TIMEOUT_S) == 0


def _value(number: int) -> bytes:
    document = {
        "cveID": f"CVE-2025-{number}",
        "tlp": "CLEAR",
        "product": "Example",
        "shortDescription": "x" * (RECORD_BYTES - 110),
    }
    return orjson.dumps(document)


def copy(place: Place, records: int) -> Round:
    """The copier, in this process: so many records from A to B, exactly once."""
    consumer = KafkaConsumer(
        SOURCE_TOPIC,
        bootstrap_servers=place.clusters["agency A"],
        group_id="copier",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_poll_records=COPIER_BATCH,
    )
    producer = KafkaProducer(
        bootstrap_servers=place.clusters["agency B"],
        transactional_id="copier",
        acks="all",
        enable_idempotence=True,
        linger_ms=5,
        retry_backoff_ms=5,
    )
    producer.init_transactions()
    with measured(place, records) as answer:
        begin_s = time.process_time()
        copied = 0
        while copied < records:
            copied += _copy_batch(consumer, producer)
        cpu_s = time.process_time() - begin_s
    consumer.close()
    producer.close()
    found = answer()
    return Round(found.rate, {**found.cpu_us, "copier": cpu_s * 1e6 / records})


def _copy_batch(consumer: Any, producer: Any) -> int:
    polled = consumer.poll(1_000)
    if not polled:
        return 0
    producer.begin_transaction()
    for batch in polled.values():
        for each in batch:
            producer.send(COPIED, each.value, each.key, list(each.headers))
    producer.commit_transaction()
    consumer.commit()
    return sum(map(len, polled.values()))


@contextmanager
def measured(place: Place, records: int) -> Iterator[Callable[[], Round]]:
    """What happened inside the block, for so many records."""
    before = {name: _cpu_s(pid) for name, pid in place.pids.items()}
    begin = time.perf_counter()
    found: list[Round] = []
    yield lambda: found[0]
    seconds = time.perf_counter() - begin
    spent = {name: (_cpu_s(pid) - before[name]) * 1e6 / records for name, pid in place.pids.items()}
    found.append(Round(records / seconds, spent))


def _cpu_s(pid: int) -> float:
    """User and system time of a process (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


@contextmanager
def running(directory: Path) -> Iterator[Place]:
    """Everything, started; stopped at the end."""
    with ExitStack() as stack:
        names = ("agency A", "agency B", "exchange's Kafka")
        nodes = {name: _node(stack, directory / f"kafka-{number}", name) for number, name in enumerate(names)}
        clusters = {name: node.bootstrap for name, node in nodes.items()}
        _topics(clusters)
        exchange = directory / "exchange"
        listen = f"127.0.0.1:{free_port_pair()}"
        initialise(exchange, listen=listen, backend="kafka", kafka=clusters["exchange's Kafka"])
        pids = {name: node.pid for name, node in nodes.items()}
        pids["broker"] = _process(stack, "serve", "--config", exchange / "entente.toml", "-o", "jsonl")
        for name, table in _connectors(exchange, listen, clusters).items():
            file = directory / f"{name}.toml"
            file.write_text(tomli_w.dumps({"connectors": {name: table}}))
            pids[name] = _process(
                stack, "connect", "run", file, "--state", directory / f"{name}-state", "-o", "jsonl"
            )
        yield Place(clusters, pids, directory / "source-state", directory / "sink-state")


def _node(stack: ExitStack, directory: Path, name: str) -> KafkaNode:
    port = free_port_pair()
    node = KafkaNode(directory, port=port, controller_port=port + 1)
    stack.callback(node.stop)
    _tell(f"starting {name}")
    node.start()
    return node


def _topics(clusters: Mapping[str, str]) -> None:
    library: Any = admin
    wanted = {
        "agency A": [library.NewTopic(SOURCE_TOPIC, PARTITIONS, 1)],
        "agency B": [
            *(library.NewTopic(name, PARTITIONS, 1) for name in (COPIED, RECEIVED)),
            library.NewTopic("entente.cursors", 1, 1, config={"cleanup.policy": "compact"}),
        ],
    }
    for name, topics in wanted.items():
        client = library.AdminClient({"bootstrap.servers": clusters[name]})
        for made in client.create_topics(topics).values():
            made.result(TIMEOUT_S)


def _process(stack: ExitStack, *arguments: str | Path) -> int:
    """Start one of our programs and wait for its ready line; its process id."""
    entente = Path(sys.executable).with_name("entente")
    process = subprocess.Popen([entente, *arguments], stdout=subprocess.PIPE, text=True)

    def end() -> None:
        process.terminate()
        process.wait(60)

    stack.callback(end)
    _tell(f"starting entente {arguments[0]}")
    if process.stdout is None or not process.stdout.readline():
        raise SystemExit(f"entente {arguments[0]} did not start")
    return process.pid


def _connectors(exchange: Path, listen: str, clusters: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    def principal(context: str) -> dict[str, str]:
        config = load_config(exchange / "entente.toml")
        token = token_for_context(config.contexts[context], config.exchange.audience, SystemClock())
        file = exchange / f"{context}.jwt"
        file.touch(mode=0o600)
        file.write_text(token or "")
        return {"endpoint": listen, "ca_file": str(exchange / "tls/ca.pem"), "token_file": str(file)}

    def kafka(name: str) -> dict[str, Any]:
        return {"bootstrap": [clusters[name]], "insecure_plaintext": True}

    source = {
        "plugin": "kafka-source",
        "topic": TOPIC,
        "exchange": principal("cyber-centre"),
        "kafka": kafka("agency A"),
        "read": {"topics": [SOURCE_TOPIC]},
        "map": {
            "type": "gov.cisa.kev.v1",
            "source": "//cyber-centre/bench",
            "id": {"path": "$.cveID"},
            "partition_key": {"key": True},
            "labels": {"dataclassification": {"path": "$.tlp", "table": {"CLEAR": "clear"}}},
        },
    }
    sink = {
        "plugin": "kafka-sink",
        "topic": TOPIC,
        "purpose": "cyber-defence",
        "exchange": principal("partner-cert"),
        "kafka": kafka("agency B"),
        "write": {"topic": RECEIVED},
    }
    return {"source": source, "sink": sink}


def _tell(what: str) -> None:
    print(what, file=sys.stderr)


def _print(rounds: Sequence[tuple[Round, Round]], records: int) -> None:
    copier, through = ([pair[side] for pair in rounds] for side in (0, 1))
    table = Table(title=f"{records:,} records of {RECORD_BYTES} bytes a round, median of {len(rounds)}")
    table.add_column("")
    table.add_column("copier", justify="right")
    table.add_column("over the exchange", justify="right")
    rates = [statistics.median(each.rate for each in side) for side in (copier, through)]
    table.add_row("records/s", *(f"{rate:,.0f}" for rate in rates))
    names = [name for name in (*through[0].cpu_us, "copier") if name]
    spent = [
        {name: statistics.median(each.cpu_us.get(name, 0.0) for each in side) for name in names}
        for side in (copier, through)
    ]
    for name in names:
        table.add_row(f"µs of processor time: {name}", *(f"{each[name]:,.1f}" for each in spent))
    Console().print(table)
    busiest = [max(each.values()) for each in spent]
    print(f"ratio of the rates {rates[1] / rates[0]:.2f} on {os.cpu_count()} cores (bar 0.5)")
    print(f"ratio with a core for each process {busiest[0] / busiest[1]:.2f}, from the busiest of each side")


if __name__ == "__main__":
    main()
