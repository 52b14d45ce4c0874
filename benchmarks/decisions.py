"""What a decision costs: asked of OPA with the default rulebook, in batches and alone, and recalled from the memo.

Run: `python -m benchmarks.decisions [--opa PATH]`. One run prints all figures, so that their ratios mean something.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from broker.adapters.clock import SystemClock
from broker.adapters.opa import OpaEngine, OpaSettings
from broker.core.decide import Decider, DeciderLimits, Question, make_question
from broker.core.rulebook.load import read_rulebook

ROOT = Path(__file__).parents[1]
OWNER = "highway-patrol"
BATCH = 500
SUBJECT_PURPOSE = "emergency-response"
OTHER_PURPOSES = ("cyber-defence", "exchange-administration", "law-enforcement", "road-safety-statistics")
OTHER_AGENCIES = ("cyber-centre", "exchange", "highway-patrol", "partner-cert", "transport")
RECORD = {
    "type": "gov.niem.crash-driver.v1",
    "agency": OWNER,
    "markings": ["criminal", "identifier", "medical", "operational", "pii", "unreviewed"],
}
SUBJECT = {
    "agency": "ems",
    "roles": ["paramedic"],
    "attributes": {"clearance": "red"},
    "purpose": SUBJECT_PURPOSE,
}


def _chosen(number: int, names: Sequence[str]) -> list[str]:
    """The subset of names that the bits of number name."""
    return [name for bit, name in enumerate(names) if number >> bit & 1]


def item(number: int) -> dict[str, object]:
    """A different label set for each number below 4096, all within the vocabulary and released to ems."""
    labels = {
        "dataclassification": "amber",
        "datacategory": "",
        "dataregulation": _chosen(number >> 9, ("CJIS", "GDPR", "HIPAA")),
        "purposes": sorted([SUBJECT_PURPOSE, *_chosen(number, OTHER_PURPOSES)]),
        "releasableto": sorted(["ems", *_chosen(number >> 4, OTHER_AGENCIES)]),
    }
    return {
        "action": "deliver",
        "subject": SUBJECT,
        "topic": "crash-reports",
        "record": {**RECORD, "labels": labels},
    }


async def per_call_us(calls: int, call: Callable[[int], Awaitable[object]]) -> float:
    """Mean microseconds of one call, after one that is not counted."""
    await call(calls)
    start = time.perf_counter()
    for number in range(calls):
        await call(number)
    return (time.perf_counter() - start) / calls * 1e6


async def measure(opa: Path) -> dict[str, float]:
    """Microseconds by what was measured."""
    start = time.perf_counter()
    engine = await OpaEngine.start(opa, read_rulebook(ROOT / "policy"), OpaSettings(deadline_s=60))
    figures = {"start of one OPA child (ms)": (time.perf_counter() - start) * 1e3}
    decider = Decider(
        engine,
        SystemClock(),
        time_dependent=False,
        limits=DeciderLimits(wait_s=60, label_sets_per_minute=1_000_000),
    )
    try:
        batch = [{**item(number), "id": str(number)} for number in range(BATCH)]
        answers = await engine.decide(batch)
        assert len(answers) == BATCH and all(answer.permitted for answer in answers.values())
        figures[f"engine, batches of {BATCH}"] = await per_call_us(6, lambda _: engine.decide(batch)) / BATCH
        figures["engine, one at a time"] = await per_call_us(200, lambda n: engine.decide([batch[n]]))
        figures.update(await _through_the_decider(decider))
    finally:
        await decider.close()
        await engine.close()
    return figures


async def _through_the_decider(decider: Decider) -> dict[str, float]:
    start = time.perf_counter()
    questions = [make_question(item(1000 + number), OWNER) for number in range(4 * BATCH)]
    making_us = (time.perf_counter() - start) / len(questions) * 1e6
    start = time.perf_counter()
    decided = await decider.decide(questions)
    asking_us = (time.perf_counter() - start) / len(questions) * 1e6
    assert all(decision is not None for decision in decided)
    recall_us = await per_call_us(50, lambda _: decider.decide(questions)) / len(questions)
    one: list[Question] = questions[:1]
    recall_one_us = await per_call_us(10_000, lambda _: decider.decide(one))
    return {
        "make a question": making_us,
        f"decider, {len(questions)} new questions": asking_us,
        f"memo, {len(questions)} at once": recall_us,
        "memo, one at a time": recall_one_us,
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--opa", type=Path, default=ROOT / ".tools" / "bin" / "opa")
    figures = asyncio.run(measure(parser.parse_args().opa))
    reference = figures[f"engine, batches of {BATCH}"]
    for name, figure in figures.items():
        ratio = "" if "(ms)" in name else f"  {figure / reference:8.3f} of a batched decision"
        print(f"{name:36} {figure:10.2f} us{ratio}" if ratio else f"{name:36} {figure:10.2f}")


if __name__ == "__main__":
    main()
