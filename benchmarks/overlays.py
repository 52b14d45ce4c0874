"""How long suspensions and withdrawals take from the call to the return, and when the last record arrives, on two brokers.

    .venv/bin/python -m benchmarks.overlays [--changes 30] [--streams 100] [--every-ms 200]

The brokers' stores are on Kafka. By turns the exchange suspends the subscribers' agency, which ends all streams, the owner
does, so that its records wait for them, and the owner withdraws a record that all were handed; after half a second what is
suspended is lifted. Milliseconds: `asked` is what the caller waits for Suspend or Withdraw, over a connection that is open;
`confirmed` is the broker's own time until all instances have; `last` is how long after the return anything still arrived at
a subscriber, below 0 if before it; `lifted` is what the caller waits for Lift. Processor time is that of both brokers, for
that half second, without their engines. Publisher and subscribers are a process of their own, and whoever measures another.
Choose a rate that leaves the machine some rest, or the queue for its processors is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from benchmarks.steady import SteadyStreams, steady_streams, two_brokers
from protos.entente.v1 import overlays_pb2 as pb
from protos.entente.v1.overlays_pb2_grpc import OverlaysStub
from tests.services.broker import Metadata

if TYPE_CHECKING:
    from protos.entente.v1.overlays_pb2_grpc import OverlaysAsyncStub

CALLERS = {"exchange": "admin-1", "owner": "cyber-centre-admin", "withdrawal": "cyber-centre-admin"}
SOURCE = "//cyber-centre/test"
CONSUMER = "partner-cert"

HELD_S = 0.5
"""How long a suspension holds."""

REST_S = 2.0
"""After all streams are open, until the next change."""

TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Row:
    """One change, in milliseconds. ended: how many streams it had ended when it was lifted."""

    by: str
    asked: float
    confirmed: float
    last: float
    lifted: float
    processor: float
    ended: int


@dataclass(frozen=True, slots=True)
class Bench:
    """Who calls, and the traffic of so many streams."""

    stub: OverlaysAsyncStub
    streams: SteadyStreams
    count: int

    async def change(self, by: str, number: int) -> Row:
        """Make one, lift it if that can be, and wait until all is as before."""
        metadata, processor_s = self.streams.brokers[0].metadata(CALLERS[by]), self.streams.processor_s()
        begin_s = time.monotonic()
        suspension, took_ms = await (
            self._withdraw(metadata, number) if by == "withdrawal" else self._suspend(metadata)
        )
        end_s = time.monotonic()
        await asyncio.sleep(HELD_S)
        processor_s, seen = self.streams.processor_s() - processor_s, await self.streams.seen()
        last_s = lifted_s = float("nan")
        if suspension:
            last_s, lifting_s = seen.newest_s - end_s, time.monotonic()
            await self.stub.Lift(pb.LiftRequest(id=suspension), metadata=metadata, timeout=TIMEOUT_S)
            lifted_s = time.monotonic() - lifting_s
        while (await self.streams.seen()).open < self.count:  # noqa: ASYNC110 - in another process
            await asyncio.sleep(0.1)
        await asyncio.sleep(REST_S)
        ended = self.count - seen.open
        times_ms = ((end_s - begin_s) * 1000, took_ms, last_s * 1000, lifted_s * 1000, processor_s * 1000)
        return Row(by, *times_ms, ended)

    async def _suspend(self, metadata: Metadata) -> tuple[str, float]:
        """Its id, and how long all instances took to confirm."""
        request = pb.SuspendRequest(kind=pb.SUSPENSION_KIND_AGENCY, target=CONSUMER, reason="a benchmark")
        done = await self.stub.Suspend(request, metadata=metadata, timeout=TIMEOUT_S)
        return done.suspension.id, done.confirmation.took_ms

    async def _withdraw(self, metadata: Metadata, number: int) -> tuple[str, float]:
        """One of the first records; nothing can be lifted afterwards."""
        request = pb.WithdrawRequest(source=SOURCE, id=f"steady/{number}", reason="a benchmark")
        done = await self.stub.Withdraw(request, metadata=metadata, timeout=TIMEOUT_S)
        return "", done.confirmation.took_ms


@asynccontextmanager
async def under_load(directory: Path, streams: int, every_s: float) -> AsyncIterator[SteadyStreams]:
    """Two brokers, streams and a publisher inside the block."""
    async with two_brokers(directory) as (_, brokers), steady_streams(brokers, streams, every_s) as running:
        yield running


def show(title: str, rows: Sequence[Row]) -> None:
    """Each row, and the quantiles of each column by who suspended."""
    names = Row.__slots__
    table = Table(title=title)
    for name in names:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(row.by, *(f"{getattr(row, name):.0f}" for name in names[1:]))
    for by in CALLERS:
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
                metadata = first.metadata(CALLERS["exchange"])
                await stub.ListSuspensions(pb.ListSuspensionsRequest(), metadata=metadata, timeout=TIMEOUT_S)
                bench = Bench(stub, streams, options.streams)
                await asyncio.sleep(REST_S)
                for number in range(options.changes):
                    rows.append(await bench.change(list(CALLERS)[number % len(CALLERS)], number))
    show(f"overlays, {options.streams} streams, a record each {options.every_ms:g} ms", rows)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overlays", description=__doc__)
    parser.add_argument("--changes", type=int, default=30, help="how many, at least 3 (default 30)")
    parser.add_argument("--streams", type=int, default=100, help="on both brokers together (default 100)")
    parser.add_argument("--every-ms", type=float, default=200.0, help="between two records (default 200)")
    asyncio.run(measure(parser.parse_args()))


if __name__ == "__main__":
    main()
