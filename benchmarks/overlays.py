"""How long a suspension takes from the call to its return, and when the last record arrives: two brokers on Kafka.

    .venv/bin/python -m benchmarks.overlays [--changes 20] [--streams 100] [--every-ms 200]

By turns the exchange suspends the subscribers' agency, which ends all streams, and the owner does, so that its records wait
for them; after half a second that is lifted. Milliseconds: `asked` is what the caller waits for Suspend, over a connection
that is open; `confirmed` is the broker's own time until all instances have; `last` is how long after the return anything
still arrived at a subscriber, below 0 if before it; `lifted` is what the caller waits for Lift. Processor time is that of
both brokers, from the call until the lift, without their engines. Publisher and subscribers are a process of their own,
and whoever measures another. Choose a rate that leaves the machine some rest, or the queue for its processors is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from benchmarks.steady import SteadyStreams, steady_streams
from protos.entente.v1 import overlays_pb2 as pb
from protos.entente.v1.overlays_pb2_grpc import OverlaysStub
from tests.services.broker import BrokerProcess
from tests.services.kafka import running_node

if TYPE_CHECKING:
    from protos.entente.v1.overlays_pb2_grpc import OverlaysAsyncStub

LIMITS = {"publish_records_per_s": 1_000_000, "drain_s": 0.0}
SUSPENDERS = {"exchange": "admin-1", "owner": "cyber-centre-admin"}
CONSUMER = "partner-cert"

SUSPENDED_S = 0.5
"""How long a suspension holds."""

REST_S = 2.0
"""After all streams are open again, until the next one."""

TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Row:
    """One suspension, in milliseconds. ended: how many streams it had ended when it was lifted."""

    by: str
    asked: float
    confirmed: float
    last: float
    lifted: float
    processor: float
    ended: int


async def change(by: str, stub: OverlaysAsyncStub, streams: SteadyStreams, count: int) -> Row:
    """Suspend, lift, and wait until all is as before."""
    metadata, processor_s = streams.brokers[0].metadata(SUSPENDERS[by]), streams.processor_s()
    request = pb.SuspendRequest(kind=pb.SUSPENSION_KIND_AGENCY, target=CONSUMER, reason="a benchmark")
    begin_s = time.monotonic()
    done = await stub.Suspend(request, metadata=metadata, timeout=TIMEOUT_S)
    end_s = time.monotonic()
    await asyncio.sleep(SUSPENDED_S)
    processor_s, seen = streams.processor_s() - processor_s, await streams.seen()
    lifting_s = time.monotonic()
    await stub.Lift(pb.LiftRequest(id=done.suspension.id), metadata=metadata, timeout=TIMEOUT_S)
    lifted_s = time.monotonic()
    while (await streams.seen()).open < count:  # noqa: ASYNC110 - they open in another process
        await asyncio.sleep(0.1)
    await asyncio.sleep(REST_S)
    return Row(
        by,
        asked=(end_s - begin_s) * 1000,
        confirmed=done.confirmation.took_ms,
        last=(seen.newest_s - end_s) * 1000,
        lifted=(lifted_s - lifting_s) * 1000,
        processor=processor_s * 1000,
        ended=count - seen.open,
    )


@asynccontextmanager
async def under_load(directory: Path, streams: int, every_s: float) -> AsyncIterator[SteadyStreams]:
    """Two brokers, streams and a publisher inside the block."""
    async with AsyncExitStack() as stack:
        node = stack.enter_context(running_node(directory / "kafka"))
        first = BrokerProcess(directory / "first", kafka=node.bootstrap, limits=LIMITS)
        second = BrokerProcess.beside(first, directory / "second")
        for broker in (first, second):
            stack.callback(broker.stop)
        await asyncio.gather(*(asyncio.to_thread(each.start) for each in (first, second)))
        yield await stack.enter_async_context(steady_streams((first, second), streams, every_s))


def show(title: str, rows: Sequence[Row]) -> None:
    """Each row, and the quantiles of each column by who suspended."""
    names = Row.__slots__
    table = Table(title=title)
    for name in names:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(row.by, *(f"{getattr(row, name):.0f}" for name in names[1:]))
    for by in SUSPENDERS:
        table.add_section()
        mine = [row for row in rows if row.by == by]
        columns = [sorted(getattr(row, name) for row in mine) for name in names[1:]]
        for label, share in (("p50", 0.5), ("p99", 0.99)):
            at = min(len(mine) - 1, int(share * len(mine)))
            table.add_row(f"{by}, {label}", *(f"{column[at]:.0f}" for column in columns))
    Console(width=110).print(table)


async def measure(options: argparse.Namespace) -> None:
    """Print the table."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="entente-bench-") as directory:
        async with under_load(Path(directory), options.streams, options.every_ms / 1000) as streams:
            first = streams.brokers[0]
            async with first.channel() as channel:
                stub = OverlaysStub(channel)
                metadata = first.metadata(SUSPENDERS["exchange"])
                await stub.ListSuspensions(pb.ListSuspensionsRequest(), metadata=metadata, timeout=TIMEOUT_S)
                for number in range(options.changes):
                    by = list(SUSPENDERS)[number % len(SUSPENDERS)]
                    rows.append(await change(by, stub, streams, options.streams))
    show(f"suspensions, {options.streams} streams, a record each {options.every_ms:g} ms", rows)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overlays", description=__doc__)
    parser.add_argument(
        "--changes", type=int, default=20, help="how many suspensions, at least 2 (default 20)"
    )
    parser.add_argument("--streams", type=int, default=100, help="on both brokers together (default 100)")
    parser.add_argument("--every-ms", type=float, default=200.0, help="between two records (default 200)")
    asyncio.run(measure(parser.parse_args()))


if __name__ == "__main__":
    main()
