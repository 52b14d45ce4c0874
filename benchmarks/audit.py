"""How many entries a second an export is verified with, on one and on two cores, with and without its SQLite file.

Run: `python -m benchmarks.audit [--entries 100000] [--batch 1]`. The ledger is made up, as a live exchange writes one:
records are published, go out at once to a few classes of subscribers, and are acknowledged. Nothing else should run then.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from broker.adapters.export.writer import ExportRequest, write_export
from broker.core.ledger.canonical import canonical
from broker.core.ledger.leaf import read_leaf, read_openings
from broker.core.merkle.hashing import leaf_hash
from broker.model.ledger import EncodedEntry, JsonValue
from broker.model.rulebook import Revision
from tests.fakes.ledgers import EXCHANGE, PEOPLE, REVISION, TOPICS, FakeLedgers, FakeReader, Instance

CHECKPOINT_ENTRIES = 1_000
ACKNOWLEDGED = 0.1
"""After how many publish calls the streams' acknowledgements are written, as a share."""

_STREAM = re.compile(rb'"stream":"[0-9a-f]{4}')
_SUBSCRIPTION = re.compile(rb'"subscription":"([a-z]+)"')


class Revisions:
    """The one revision that the ledger names."""

    async def get(self, revision_id: str) -> Revision | None:
        """See RulebookReader."""
        return REVISION if revision_id == REVISION.id else None

    async def list(self) -> list[str]:
        """See RulebookReader."""
        return [REVISION.id]

    async def close(self) -> None:
        """See RulebookReader."""


def make_life(entries: int, batch: int) -> FakeLedgers:
    """A live exchange on one instance: what is published goes out at once, and is acknowledged now and then."""
    ledgers = FakeLedgers(seed=1)
    broker = ledgers.instances["broker"]
    streams = [
        ledgers.open(broker, person, topic, topic.split("-")[0]) for topic in TOPICS for person in PEOPLE
    ]
    for topic in itertools.cycle(TOPICS):
        ledgers.now_ms += 20
        ledgers.publish(broker, topic, batch)
        for stream in streams:
            if stream.topic == topic and stream.next != [len(each) for each in ledgers.records[topic]]:
                ledgers.deliver(broker, stream, limit=1_000)
        if ledgers.random.random() < ACKNOWLEDGED:
            ledgers.acknowledge(broker, streams)
        if len(broker.entries) >= entries:
            return ledgers
    raise AssertionError


def copy(ledgers: FakeLedgers, life: Instance, number: int) -> Instance:
    """The same life on another instance, with streams and subscriptions of its own."""
    made = Instance(f"broker-{number}", ledgers.signer)
    for index, encoded in enumerate(life.entries):
        openings = _STREAM.sub(b'"stream":"%04x' % number, encoded.openings)
        openings = _SUBSCRIPTION.sub(rb'"subscription":"\1-%d"' % number, openings)
        openings = openings.replace(b'"instance":"broker"', b'"instance":"%b"' % made.name.encode())
        leaf, opened = read_leaf(encoded.leaf), read_openings(openings)
        parts: dict[str, JsonValue] = {name: root.hex() for name, root in leaf.parts.items()}
        parts |= {name: root.hex() for name, root in opened.commitments().items()}
        content: dict[str, JsonValue] = {
            "v": 1,
            "instance": made.name,
            "epoch": leaf.epoch,
            "index": index,
            "kind": leaf.kind,
            "time_ms": leaf.time_ms,
            "parts": parts,
        }
        made.entries.append(EncodedEntry(canonical(content), openings))
        made.tree.append(leaf_hash(made.entries[-1].leaf))
        if (index + 1) % CHECKPOINT_ENTRIES == 0:
            ledgers.checkpoint(made, *ledgers.signers)
    ledgers.checkpoint(made, *ledgers.signers)
    return made


def measure(export: Path, notes: Path, *, workers: int, with_tables: bool) -> tuple[float, float, float]:
    """Entries a second, and microseconds of processor time for an entry: of the process that joins, and of all.

    In a process of its own: collecting the garbage of one that has made up a ledger would count as well.
    """
    arguments = (str(export), str(notes), str(workers), "yes" if with_tables else "no")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.verification", *arguments], check=True, capture_output=True
    )
    found = json.loads(done.stdout)
    entries = found["entries"]
    return entries / found["seconds"], found["own_s"] / entries * 1e6, found["processor_s"] / entries * 1e6


async def run(entries: int, life_entries: int, batch: int) -> None:
    """Make the export and print the table."""
    ledgers = make_life(life_entries, batch)
    life = ledgers.instances["broker"]
    copies = [copy(ledgers, life, number) for number in range(max(1, entries // len(life.entries)))]
    reader = FakeReader(
        {made.name: made.entries for made in copies}, {made.name: made.checkpoints for made in copies}
    )
    total = sum(len(made.entries) for made in copies)
    size = sum(len(e.leaf) + len(e.openings) for made in copies for e in made.entries)
    with tempfile.TemporaryDirectory() as parent:
        out = Path(parent) / "export"
        began = time.perf_counter()
        await write_export(ExportRequest(out, EXCHANGE, ledgers.keys), reader, Revisions())
        passed = time.perf_counter() - began
        print(
            f"{total:,} entries of {size // total:,} bytes on average; exported with {total / passed:,.0f} a second"
        )
        notes = Path(parent) / "notes"
        notes.mkdir()
        for made in copies:
            (notes / made.name).write_bytes(made.checkpoints[-1].note)
        print(f"{'verified':44}{'entries a second':>18}{'µs of CPU each':>16}{'of which joining':>18}")
        for workers in (1, 2):
            for with_tables in (False, True):
                name = f"{workers} process{'es' * (workers > 1)}{', the SQLite file too' * with_tables}"
                rate, own, used = await asyncio.to_thread(
                    measure, out, notes, workers=workers, with_tables=with_tables
                )
                print(f"{name:44}{rate:18,.0f}{used:16.1f}{own if workers > 1 else 0:18.1f}")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--life", type=int, default=10_000, help="entries that are made up, and then copied")
    parser.add_argument("--batch", type=int, default=1, help="records that are published at once")
    arguments = parser.parse_args()
    asyncio.run(run(arguments.entries, arguments.life, arguments.batch))


if __name__ == "__main__":
    main()
