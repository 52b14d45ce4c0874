"""Where the time of an activation goes: two brokers on Kafka under streams and a steady rate, by the control log's events.

    .venv/bin/python -m benchmarks.activation [--activations 20] [--streams 10] [--every-ms 20] [--known]

A third member in this process leads, follows the control log, and notes when it hears what. Each row is one activation, in
milliseconds: `heard` counts from the call until `preparing` is heard, `prepared` from there until the last member is,
`switched` until `activated` is heard, `applied` until all have confirmed. A record takes from its call of Publish to its
arrival at a stream; what the slowest one from the call to the return takes beyond the slowest of the second before is how
long streams pause. Processor time is that of both brokers, traffic included, without their engines. The last columns count
what the control log holds in between. `--known` proposes and approves each revision first, as administrators do, so that the
brokers hold it ready; without it that is so for all but the first, since they hold the one before ready as well. Publisher
and subscribers are a process of their own. Choose a rate that leaves the machine some rest, or the rest is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.steady import EVERY_S, SteadyStreams, steady_streams, two_brokers
from broker.adapters.kafka.control import KafkaControlLog
from broker.core.rulebook.load import read_rulebook, revision_of
from broker.model.control import ControlEvent, Heard
from broker.model.rulebook import Revision
from tests.services.operator import Operator, operating, seal_of

AGREEMENTS = "data/agreements/cyber-centre/data.yaml"
AROUND_S = 1.0
"""Before a change, for what is usual, and after it, for what was published just then to arrive."""

READY_S = 10.0
"""The longest that is waited for brokers to hold a revision ready."""


@dataclass(slots=True)
class ControlTimes:
    """What the control log brought, and when."""

    entries: list[tuple[Heard, float]] = field(default_factory=list)

    def hear(self, entries: Sequence[Heard]) -> None:
        """As a follower of the log is told."""
        now_s = time.monotonic()
        self.entries += [(entry, now_s) for entry in entries]

    def last_s(self, kind: str) -> float:
        """When the newest event of this kind was heard."""
        return next(at for entry, at in reversed(self.entries) if _kind(entry) == kind)


@dataclass(frozen=True, slots=True)
class Row:
    """One change: milliseconds, and how many events and beats it took."""

    heard: float
    prepared: float
    switched: float
    applied: float
    total: float
    usual_record: float
    slowest_before: float
    slowest_record: float
    processor: float
    events: int
    beats: int


HEADINGS = (
    "heard",
    "prepared",
    "switched",
    "applied",
    "call to return",
    "record, usual",
    "slowest before",
    "slowest then",
    "processor",
    "events",
    "beats",
)


@dataclass(slots=True)
class Bench:
    """An exchange under load."""

    operator: Operator
    control: ControlTimes
    streams: SteadyStreams

    async def activate(self, revision: Revision) -> Row:
        """Once."""
        begin_s, begin, processor_s = time.monotonic(), len(self.control.entries), self.streams.processor_s()
        await self.operator.activate(revision)
        end_s, processor_s = time.monotonic(), self.streams.processor_s() - processor_s
        at_s = (
            begin_s,
            *(self.control.last_s(kind) for kind in ("preparing", "prepared", "activated")),
            end_s,
        )
        return await self._row(at_s, begin, processor_s)

    async def make_known(self, revision: Revision) -> None:
        """Propose and approve it, and give the brokers time to hold it ready."""
        await self.operator.approve(revision)
        give_up_s, line = time.monotonic() + READY_S, f"held ready: revision={revision.id}"
        while not all(line in broker.log() for broker in self.streams.brokers):
            if time.monotonic() > give_up_s:
                break
            await asyncio.sleep(0.1)
        await asyncio.sleep(AROUND_S)

    async def _row(self, at_s: Sequence[float], begin: int, processor_s: float) -> Row:
        begin_s, end_s = at_s[0], at_s[-1]
        spent = self.control.entries[begin:]
        await asyncio.sleep(2 * AROUND_S)
        usual = (await self.streams.seen(begin_s - AROUND_S, begin_s)).delays_ms
        around = (await self.streams.seen(begin_s, end_s + AROUND_S / 2)).delays_ms
        heard, prepared, switched, applied = (1000 * (after - before) for before, after in pairwise(at_s))
        events = sum(_kind(entry) is not None for entry, _ in spent)
        return Row(
            heard,
            prepared,
            switched,
            applied,
            total=1000 * (end_s - begin_s),
            usual_record=statistics.median(usual or [float("nan")]),
            slowest_before=max(usual, default=float("nan")),
            slowest_record=max(around, default=float("nan")),
            processor=1000 * processor_s,
            events=events,
            beats=len(spent) - events,
        )


def _kind(entry: Heard) -> str | None:
    return entry.content.kind if isinstance(entry.content, ControlEvent) else None


def two_revisions(directory: Path) -> tuple[Revision, Revision]:
    """As it is, and with an obligation more for those who subscribe."""
    present = read_rulebook(directory / "rulebook")
    head, name, tail = present.files[AGREEMENTS].decode().partition("partner-cert-cyber-defence:")
    changed = head + name + tail.replace("obligations: []", "obligations: [delete-after-90-days]", 1)
    return present, revision_of({**present.files, AGREEMENTS: changed.encode()})


@asynccontextmanager
async def bench(
    directory: Path, streams: int, every_s: float
) -> AsyncIterator[tuple[Bench, tuple[Revision, Revision]]]:
    """Two brokers, a third member, streams and a publisher inside the block."""
    async with AsyncExitStack() as stack:
        kafka, brokers = await stack.enter_async_context(two_brokers(directory))
        first = brokers[0]
        operator = await stack.enter_async_context(operating(kafka, first))
        log = await KafkaControlLog.open(operator.connection, seal_of(first))
        stack.push_async_callback(log.close)
        control = ControlTimes()
        await log.follow(control.hear, lambda: None)
        revisions = two_revisions(first.directory)
        await operator.store(revisions[1])
        running = await stack.enter_async_context(steady_streams(brokers, streams, every_s))
        yield Bench(operator, control, running), revisions


def show(title: str, rows: Sequence[Row]) -> None:
    """Each row, and the quantiles of each column."""
    table = Table(title=title)
    for heading in ("", *HEADINGS):
        table.add_column(heading, justify="right")
    names = Row.__slots__
    for number, row in enumerate(rows, 1):
        table.add_row(str(number), *(f"{getattr(row, name):.0f}" for name in names))
    table.add_section()
    columns = [sorted(getattr(row, name) for row in rows) for name in names]
    for label, share in (("p50", 0.5), ("p99", 0.99)):
        table.add_row(label, *(f"{each[min(len(each) - 1, int(share * len(each)))]:.0f}" for each in columns))
    Console(width=132).print(table)


async def measure(options: argparse.Namespace) -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory(prefix="entente-bench-") as directory:
        async with bench(Path(directory), options.streams, options.every_ms / 1000) as (made, revisions):
            activations = []
            for number in range(1, options.activations + 1):
                if options.known:
                    await made.make_known(revisions[number % 2])
                activations.append(await made.activate(revisions[number % 2]))
    show(f"activations, {options.streams} streams, a record each {options.every_ms:g} ms", activations)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.activation", description=__doc__)
    parser.add_argument("--activations", type=int, default=20, help="how many (default 20)")
    parser.add_argument("--streams", type=int, default=10, help="on both brokers together (default 10)")
    parser.add_argument("--every-ms", type=float, default=EVERY_S * 1000, help="between two records (20)")
    parser.add_argument("--known", action="store_true", help="each revision is proposed and approved first")
    asyncio.run(measure(parser.parse_args()))


if __name__ == "__main__":
    main()
