"""Checks what the ledger says of streams against what was stored and received: no hole, no overlap, nothing twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, cast

from broker.core.ledger.handed_out import handed_out_root
from broker.core.ledger.runs import places_of
from broker.core.record.envelope import source_agency
from broker.model.ledger import LedgerEntry
from protos.entente.v1.exchange_pb2 import Batch
from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent
from tests.fakes.delivery import MemoryLog, World

Place = tuple[int, int]
HANDED_OUT = ("release", "notice")
UNDECIDED = "unregistered"


@dataclass
class Chain:
    """What entries say of one stream, in order. handed_out: by entry; `moved` takes back the last if it was withdrawn."""

    at: dict[str, Any]
    handed_out: list[list[Place]] = field(default_factory=list)
    moves: list[str] = field(default_factory=list)
    ended: str | None = None


def read_chains(log: MemoryLog, entries: Sequence[LedgerEntry]) -> dict[str, Chain]:
    """Every stream's chain by its id; fails for one that does not join, or whose counts are not those of its ranges."""
    chains: dict[str, Chain] = {}
    for entry in entries:
        body = cast(dict[str, Any], entry.body)
        if entry.kind == "moved" and body["stream"]["stream"]:
            _move(chains, body)
        elif entry.kind == "delivery":
            assert body["count"] == len(places_of(body["places"]))
            accounted = [(number, each) for each in body["considered"] for number in each["receivers"]]
            assert sorted(number for number, _ in accounted) == [*range(len(body["receivers"]))]
            for number, history in accounted:
                chain = chains[body["receivers"][number]["stream"]]
                _extend(log, chain, history, [(p, o) for p, o, _ in places_of(body["places"])])
        elif entry.kind == "stream_closed":
            chain = chains[body["stream"]["stream"]]
            (history,) = body["considered"]
            _extend(log, chain, history, [])
            assert body["end"]["standing"] == chain.at
            chain.ended = body["end"]["cause"]
    return chains


def _move(chains: dict[str, Chain], body: dict[str, Any]) -> None:
    stream, move = body["stream"]["stream"], body["move"]
    to = {"next": move["to"], "lags": []}
    if stream not in chains:
        chains[stream] = Chain(to, moves=[move["cause"]])
        return
    chain = chains[stream]
    assert move["cause"] == "refreshed", "only a refresh moves an open stream"
    assert chain.ended is None
    assert move["from"] == _cursor(chain.at)
    chain.handed_out.pop()
    chain.at = to
    chain.moves.append(move["cause"])


def _extend(log: MemoryLog, chain: Chain, history: dict[str, Any], places: list[Place]) -> None:
    assert chain.ended is None, "nothing comes after the end"
    assert history["from"] == chain.at, "a hole or an overlap"
    before, after = _dealt_with(log, history["from"]), _dealt_with(log, history["to"])
    assert before <= after, "a stream never goes back by itself"
    considered = after - before
    assert sum(history["outcomes"].values()) == len(considered)
    assert sum(history["outcomes"].get(name, 0) for name in HANDED_OUT) == len(places)
    decided = len(considered) - len(places) - history["outcomes"].get(UNDECIDED, 0)
    assert sum(count for _, count in history["withheld"]) == decided
    keys = [str(decision) for decision, _ in history["withheld"]]
    assert len(set(keys)) == len(keys), "a decision stands twice"
    assert len(set(places)) == len(places)
    assert set(places) <= considered
    chain.at = history["to"]
    chain.handed_out.append(places)


def _dealt_with(log: MemoryLog, standing: dict[str, Any]) -> set[Place]:
    """Every record before the standing that waits for no decision."""
    found = set()
    for partition, end in enumerate(standing["next"]):
        for stored in log.records[partition][:end]:
            owner = source_agency(CloudEvent.FromString(stored.body).source)
            if not any((p, o) == (partition, owner) and at <= stored.offset for p, o, at in standing["lags"]):
                found.add((partition, stored.offset))
    return found


def _cursor(standing: dict[str, Any]) -> list[int]:
    positions = list(standing["next"])
    for partition, _, offset in standing["lags"]:
        positions[partition] = min(positions[partition], offset)
    return positions


def entry_of(world: World, batch: Batch, subject: str) -> LedgerEntry:
    """The entry that a batch's receipt leads to; fails unless it is about exactly this batch."""
    receipt = world.receipts.open(batch.receipt, "consumer", subject)
    entry = world.ledger.entries[receipt.place.index]
    assert entry.kind == "delivery"
    contents = [sha256(each.SerializeToString(deterministic=True)).digest() for each in batch.deliveries]
    assert entry.roots["handed_out"] == handed_out_root(receipt.secret, contents)
    return entry
