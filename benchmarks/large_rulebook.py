"""What a rulebook of 18,000 agencies and 1,000,000 agreements costs, from its archive to its decisions.

Run: `python -m benchmarks.large_rulebook [--agencies N] [--agreements N] [--opa PATH] [--steps STEP ...]`. Processor time is
the program's own and, after the plus sign, OPA's and of other programs that have ended; the memory is the most so far. Of
decisions, those on a rulebook of 10 agencies are printed beside.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from benchmarks.made_rulebook import Size, make_rulebook
from broker.adapters.kafka.rulebook_store import encode_revision
from broker.adapters.opa import OpaCompiler, OpaTrials
from broker.adapters.opa.trial import OpaTrial
from broker.adapters.sqlite.rulebook_store import SqliteRulebookStore
from broker.core.rulebook.archive import read_archive
from broker.core.rulebook.cases import read_cases
from broker.core.rulebook.check import check_modules, read_registry
from broker.core.rulebook.difference import compare
from broker.core.rulebook.examine import examine
from broker.core.rulebook.load import revision_of
from broker.core.rulebook.pack import pack
from broker.core.rulebook.samples import questions_of_agreements
from broker.core.rulebook.syntax import remembering
from broker.model.registry import Registry
from broker.model.rulebook import Revision

ROOT = Path(__file__).parents[1]
SMALL = Size(agencies=10, agreements=100, with_types=2, with_modules=2)
_RUNS = 7
_STEPS = ("decide", "compare", "store", "examine")
_Items = Sequence[dict[str, object]]


@contextmanager
def step(name: str) -> Iterator[None]:
    """Print what the steps inside took."""
    own, others, start = time.process_time(), _others_s(), time.perf_counter()
    yield
    own, others = time.process_time() - own, _others_s() - others
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    elapsed = time.perf_counter() - start
    print(f"{name:44} {own:8.1f} +{others:6.1f} s {elapsed:8.1f} s elapsed {peak_mb:7} MB", flush=True)


def _others_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


@dataclass(frozen=True, slots=True)
class Costs:
    """Microseconds of the fastest runs: the median and the most of questions asked alone, and each in a batch."""

    median: float
    most: float
    batched: float


async def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--opa", type=Path, default=ROOT / ".tools" / "bin" / "opa")
    parser.add_argument("--agencies", type=int, default=18_000)
    parser.add_argument("--agreements", type=int, default=1_000_000)
    parser.add_argument("--steps", nargs="+", choices=_STEPS, default=_STEPS)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="entente-bench-") as name:
        directory = Path(name)
        revision = _through_an_archive(Size.of(chosen.agencies, chosen.agreements), directory)
        compiler = OpaCompiler(chosen.opa)
        if "decide" in chosen.steps:
            await _checked_and_asked(chosen.opa, compiler, revision)
        if "compare" in chosen.steps:
            _differences(compiler, revision)
        if "store" in chosen.steps:
            await _storing(revision, directory)
        if "examine" in chosen.steps:
            await _examined(chosen.opa, compiler, revision)


async def _checked_and_asked(opa: Path, compiler: OpaCompiler, revision: Revision) -> None:
    """What is read for this is gone before the examination reads it again."""
    with step("read all data, check its names"):
        registry = read_registry(revision)
    with step("parse and compile the modules"):
        findings = check_modules(compiler, remembering(compiler.parse), revision, registry)
    assert not findings, findings[:5]
    await _decisions(opa, revision, registry)


async def _examined(opa: Path, compiler: OpaCompiler, revision: Revision) -> None:
    with step("the whole examination"):
        examination = await examine(compiler, OpaTrials(opa), revision)
    errors = [str(finding) for finding in examination.findings[: examination.errors]]
    print(f"  {examination.errors} errors, {len(examination.findings)} findings", *errors[:5], sep="\n")


def _through_an_archive(size: Size, directory: Path) -> Revision:
    with step("(make the files)"):
        files = make_rulebook(size)
    total_mb = sum(map(len, files.values())) / 1e6
    print(
        f"  {len(files)} files, {total_mb:.0f} MB, the largest {max(map(len, files.values())) / 1e6:.0f} MB"
    )
    path = directory / "rulebook.tar.gz"
    with step("pack the archive"), path.open("wb") as into:
        pack(files, into)
    print(f"  {path.stat().st_size / 1e6:.0f} MB")
    with step("read the archive, its revision's id"):
        return read_archive(path)


async def _decisions(opa: Path, revision: Revision, registry: Registry) -> None:
    costs: list[Mapping[str, Costs]] = []
    small = revision_of(make_rulebook(SMALL))
    for each, registered in ((small, read_registry(small)), (revision, registry)):
        items = _items(each, registered)
        with nullcontext() if each is small else step("parse the data, pack it, start OPA"):
            trial = await OpaTrials(opa).start(each)
        print(f"  OPA: {_used_ns(trial) / 1e9:.1f} s of processor time, {_peak_mb(trial)} MB at most")
        costs.append({action: await _costs(trial, asked) for action, asked in items.items()})
        await trial.close()
    print(f"\n{'decision, us':20} {'10 agencies':>14} {'this many':>14} {'ratio':>8}")
    for action, large in costs[1].items():
        few = costs[0][action]
        rows = {"median": (few.median, large.median), "most": (few.most, large.most)}
        for name, (one, other) in (rows | {"batched": (few.batched, large.batched)}).items():
            print(f"{action + ', ' + name:20} {one:14.0f} {other:14.0f} {other / one:8.2f}")
    print()


def _items(revision: Revision, registry: Registry) -> Mapping[str, _Items]:
    """What agreements are for, and whether the two sides may subscribe and publish."""
    delivered = [
        question.item for question in questions_of_agreements(registry, read_cases(revision, registry))
    ]
    return {
        "deliver": delivered,
        "subscribe": [_subscribing(item) for item in delivered],
        "publish": [_publishing(item) for item in delivered],
    }


def _subscribing(item: dict[str, object]) -> dict[str, object]:
    subject = item["subject"]
    assert isinstance(subject, dict)
    person = {"action": "subscribe", "subject": {**subject, "id": "somebody"}}
    return {"id": item["id"], "topic": item["topic"], **person}


def _publishing(item: dict[str, object]) -> dict[str, object]:
    record, subject = item["record"], item["subject"]
    assert isinstance(record, dict) and isinstance(subject, dict)
    person = {key: subject[key] for key in ("roles", "attributes")} | {
        "agency": record["agency"],
        "id": "somebody",
    }
    return {
        "id": item["id"],
        "topic": item["topic"],
        "record": record,
        "action": "publish",
        "subject": person,
    }


async def _costs(trial: OpaTrial, items: _Items) -> Costs:
    alone = []
    for item in items:
        runs = [(await trial.evaluate(item)).duration_ns for _ in range(_RUNS)]
        alone.append(min(runs) / 1e3)
    numbered = [{**item, "id": str(number)} for number, item in enumerate(items)]
    batches = [await _batch_us(trial, numbered) for _ in range(_RUNS)]
    return Costs(sorted(alone)[len(alone) // 2], max(alone), min(batches) / len(items))


async def _batch_us(trial: OpaTrial, items: _Items) -> float:
    before = _used_ns(trial)
    await trial.decide(items)
    return (_used_ns(trial) - before) / 1e3


def _used_ns(trial: OpaTrial) -> int:
    """The processor time of its OPA so far, by the clock that clock_getcpuclockid(3) makes from a process id."""
    assert trial.pid is not None
    return time.clock_gettime_ns((~trial.pid << 3) | 2)


def _peak_mb(trial: OpaTrial) -> int:
    status = Path(f"/proc/{trial.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) // 1024


def _differences(compiler: OpaCompiler, revision: Revision) -> None:
    owners = sorted(path for path in revision.files if path.startswith("data/agreements/office-"))
    for name, some in (("of one owner", owners[1:2]), ("of a thousand owners", owners[:1000])):
        changed = {path: revision.files[path].replace(b"2031-01-01", b"2032-01-01") for path in some}
        other = revision_of({**revision.files, **changed})
        with step(f"difference: agreements {name}"):
            changes = compare(revision, other, compiler.parse)
        print(f"  {len(changes)} changes")


async def _storing(revision: Revision, directory: Path) -> None:
    store = await SqliteRulebookStore.open(directory)
    try:
        with step("store on SQLite"):
            await store.put(revision)
        with step("read it again, and its id"):
            found = await store.get(revision.id)
        assert found is not None and found.id == revision.id
    finally:
        await store.close()
    with step("make the records for Kafka"):
        records = list(encode_revision(revision))
    print(f"  {len(records)} records, the largest {max(len(each.value or b'') for each in records)} bytes")


if __name__ == "__main__":
    asyncio.run(main())
