"""The index of ledgers: what it answers is what the entries say, however it came to hold them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from broker.adapters.export.index import SqliteAuditIndex
from broker.core.audit.reading import EntryReader, read_entry
from broker.core.audit.sightings import what_saw, who_saw
from broker.core.ledger.runs import places_of
from broker.core.merkle.hashing import leaf_hash, root_of
from broker.core.merkle.proofs import verify_consistency, verify_inclusion
from broker.errors import LedgerRefused, StorageUnavailable
from broker.model.audit import EntryQuery, Reception
from broker.model.ledger import ReadPoint
from tests.fakes.ledgers import EXCHANGE, ORIGIN, PEOPLE, FakeLedgers, FakeReader, make_ledgers

SIZES = 40


@pytest.fixture(scope="module")
def ledgers() -> FakeLedgers:
    return make_ledgers(seed=51, rounds=300)


@pytest.fixture
async def index(ledgers: FakeLedgers, tmp_path: Path) -> AsyncIterator[SqliteAuditIndex]:
    opened = await SqliteAuditIndex.open(tmp_path / "index.sqlite", EXCHANGE)
    await opened.update(ledgers.reader())
    yield opened
    await opened.close()


def bodies(ledgers: FakeLedgers, kind: str) -> list[tuple[str, int, int, dict[str, Any]]]:
    """Instance, index, time and body of all entries of a kind."""
    return [
        (name, number, entry.time_ms, cast(dict[str, Any], dict(entry.body)))
        for name, instance in ledgers.instances.items()
        for number, entry in enumerate(instance.plain)
        if entry.kind == kind
    ]


class TestUpdates:
    async def test_little_by_little_it_becomes_the_same(self, ledgers: FakeLedgers, tmp_path: Path) -> None:
        whole = ledgers.reader()
        growing = FakeReader({name: [] for name in whole.entries}, {name: [] for name in whole.stored})
        index = await SqliteAuditIndex.open(tmp_path / "index.sqlite", EXCHANGE)
        chance = random.Random(5)
        while growing.entries != whole.entries:
            for name, entries in whole.entries.items():
                have, stored = len(growing.entries[name]), len(growing.stored[name])
                growing.entries[name] += entries[have : have + chance.randrange(0, 190)]
                growing.stored[name] += whole.stored[name][stored : stored + chance.randrange(0, 20)]
            await index.update(growing)
            if chance.random() < 0.3:  # and over restarts
                await index.close()
                index = await SqliteAuditIndex.open(tmp_path / "index.sqlite", EXCHANGE)
        growing.stored = whole.stored
        await index.update(growing)
        await index.update(growing)
        at_once = await SqliteAuditIndex.open(tmp_path / "other.sqlite", EXCHANGE)
        await at_once.update(whole)
        assert await index.coverage() == await at_once.coverage()
        for name, instance in ledgers.instances.items():
            assert await index.latest_checkpoint(name) == instance.checkpoints[-1]
            query = EntryQuery(name, limit=10_000)
            assert await index.entries(query) == await at_once.entries(query)
            proof = await index.inclusion_proof(name, 3, instance.tree.size)
            assert proof == await at_once.inclusion_proof(name, 3, instance.tree.size)
        for person in PEOPLE:
            assert await index.receptions(person.agency) == await at_once.receptions(person.agency)
        await index.close()
        await at_once.close()

    async def test_it_goes_on_only_with_what_follows(
        self, ledgers: FakeLedgers, index: SqliteAuditIndex
    ) -> None:
        other = make_ledgers(seed=52, rounds=20)
        before = await index.coverage()
        reader = ledgers.reader()
        reader.entries["broker"].append(other.instances["broker"].entries[5])
        with pytest.raises(LedgerRefused):
            await index.update(reader)
        assert await index.coverage() == before
        await index.update(ledgers.reader())
        assert await index.coverage() == before

    async def test_a_refused_update_leaves_no_numbers_behind(
        self, ledgers: FakeLedgers, tmp_path: Path
    ) -> None:
        """Texts that were numbered in what was rolled back are numbered again."""
        index = await SqliteAuditIndex.open(tmp_path / "index.sqlite", EXCHANGE)
        reader = ledgers.reader()
        broken = ledgers.reader()
        broken.entries["broker"][50:50] = [reader.entries["broker"][0]]
        with pytest.raises(LedgerRefused):
            await index.update(broken)
        await index.update(reader)
        record = ledgers.records["crash-reports"][0][0]
        (publication, *_) = await index.publications(record.source, record.id)
        assert publication.owner == "highway-patrol"
        await index.close()

    async def test_one_process_writes_at_a_time(self, index: SqliteAuditIndex, tmp_path: Path) -> None:
        with pytest.raises(StorageUnavailable):
            await SqliteAuditIndex.open(tmp_path / "index.sqlite", EXCHANGE)

    async def test_an_entry_that_cannot_be_read_keeps_its_place(
        self, ledgers: FakeLedgers, tmp_path: Path
    ) -> None:
        reader = ledgers.reader()
        reader.change("broker", 20, openings=reader.entries["broker"][21].openings)
        index = await SqliteAuditIndex.open(tmp_path / "index.sqlite", EXCHANGE)
        await index.update(reader)
        row = await index.entry("broker", 20)
        assert row is not None and (row.kind, row.opened) == ("", False)
        size = len(reader.entries["broker"])
        leaves = [leaf_hash(entry.leaf) for entry in reader.entries["broker"]]
        proof = await index.inclusion_proof("broker", 21, size)
        verify_inclusion(leaves[21], 21, size, proof, root_of(leaves))
        await index.close()


class TestEntries:
    async def test_coverage(self, ledgers: FakeLedgers, index: SqliteAuditIndex) -> None:
        for covered in await index.coverage():
            instance = ledgers.instances[covered.instance]
            assert (covered.begin, covered.end) == (0, len(instance.plain))
            assert (covered.first_ms, covered.last_ms) == (
                instance.plain[0].time_ms,
                instance.plain[-1].time_ms,
            )
            assert covered.origin == f"{ORIGIN}/{covered.instance}"

    async def test_filters(self, ledgers: FakeLedgers, index: SqliteAuditIndex) -> None:
        plain = ledgers.instances["broker"].plain
        times = sorted(entry.time_ms for entry in plain)
        since, until = times[len(times) // 3], times[2 * len(times) // 3]

        async def found(**conditions: Any) -> list[int]:
            return [
                row.index for row in await index.entries(EntryQuery("broker", limit=10_000, **conditions))
            ]

        def expected(kinds: set[str] | None = None, low: int = 0) -> list[int]:
            return [n for n, e in enumerate(plain) if (kinds is None or e.kind in kinds) and e.time_ms >= low]

        assert await found() == expected()
        assert await found(kinds=frozenset({"publish"})) == expected({"publish"})
        two = {"moved", "delivery"}
        assert await found(kinds=frozenset(two), since_ms=since) == expected(two, since)
        assert await found(until_ms=until) == [n for n, e in enumerate(plain) if e.time_ms <= until]
        assert await found(from_index=100) == list(range(100, len(plain)))
        assert await found(kinds=frozenset()) == []
        assert await index.entries(EntryQuery("nobody")) == []

    async def test_pages(self, ledgers: FakeLedgers, index: SqliteAuditIndex) -> None:
        seen: list[int] = []
        while rows := await index.entries(EntryQuery("second", from_index=len(seen), limit=37)):
            assert len(rows) <= 37
            seen += [row.index for row in rows]
        assert seen == list(range(len(ledgers.instances["second"].plain)))

    async def test_what_concerns_an_agency(self, ledgers: FakeLedgers, index: SqliteAuditIndex) -> None:
        plain = ledgers.instances["broker"].plain
        for agency in ("transport", "ems", "highway-patrol", "nobody"):
            rows = await index.entries(EntryQuery("broker", agency=agency, limit=10_000))
            expected = [n for n, entry in enumerate(plain) if agency in concerned(dict(entry.body))]
            assert [row.index for row in rows] == expected
            some = EntryQuery("broker", agency=agency, kinds=frozenset({"delivery"}), limit=10_000)
            deliveries = [n for n in expected if plain[n].kind == "delivery"]
            assert [row.index for row in await index.entries(some)] == deliveries

    async def test_single_entries_are_read_by_index(
        self, ledgers: FakeLedgers, index: SqliteAuditIndex
    ) -> None:
        reader = ledgers.reader()
        entries = EntryReader(reader, index)
        chance = random.Random(3)
        for _ in range(30):
            name = chance.choice(["broker", "second"])
            at = chance.randrange(len(reader.entries[name]))
            assert await entries.read(name, at) == reader.entries[name][at]
        for name, at in (("broker", 10**6), ("broker", -1), ("nobody", 0)):
            with pytest.raises(LookupError):
                await entries.read(name, at)
        reader.change("broker", 5, leaf=reader.entries["broker"][6].leaf)
        with pytest.raises(LedgerRefused):
            await read_entry(reader, index, "broker", 5)

    async def test_points_lie_before_their_entries(self, index: SqliteAuditIndex) -> None:
        for at in (0, 1, 63, 64, 200):
            assert (await index.point("broker", at)).index <= at
        assert await index.point("nobody", 5) == ReadPoint()


class TestTree:
    async def test_proofs_of_any_entry_in_any_tree(
        self, ledgers: FakeLedgers, index: SqliteAuditIndex
    ) -> None:
        chance = random.Random(9)
        for name, instance in ledgers.instances.items():
            leaves = [leaf_hash(entry.leaf) for entry in instance.entries]
            whole = len(leaves)
            for size in (1, 2, 255, 256, 257, whole, *(chance.randrange(1, whole) for _ in range(SIZES))):
                at, old = chance.randrange(size), chance.randrange(size + 1)
                root, older = root_of(leaves[:size]), root_of(leaves[:old])
                proof = await index.inclusion_proof(name, at, size)
                verify_inclusion(leaves[at], at, size, proof, root)
                verify_consistency(old, older, size, root, await index.consistency_proof(name, old, size))
            for wrong in ((whole, whole + 1), (0, 0), (5, 5), (0, whole + 1)):
                with pytest.raises(ValueError):
                    await index.inclusion_proof(name, *wrong)
            with pytest.raises(ValueError):
                await index.consistency_proof(name, 3, whole + 1)
        with pytest.raises(ValueError):
            await index.inclusion_proof("nobody", 0, 1)

    async def test_checkpoints(self, ledgers: FakeLedgers, index: SqliteAuditIndex) -> None:
        instance = ledgers.instances["broker"]
        covering = await index.checkpoint_covering("broker", 0)
        assert covering == instance.checkpoints[0]
        last = instance.tree.size - 1
        covering = await index.checkpoint_covering("broker", last)
        assert covering is not None and f"\n{instance.tree.size}\n".encode() in covering.note
        assert await index.checkpoint_covering("broker", last + 1) is None
        assert await index.latest_checkpoint("broker") == instance.checkpoints[-1]
        assert await index.latest_checkpoint("nobody") is None


class TestSeen:
    async def test_who_saw_is_what_the_deliveries_say(
        self, ledgers: FakeLedgers, index: SqliteAuditIndex
    ) -> None:
        ends = {
            body["stream"]["stream"]: body["end"]["cause"] for *_, body in bodies(ledgers, "stream_closed")
        }
        looked = 0
        for topic, partitions in ledgers.records.items():
            for record in (record for records in partitions for record in records[::7]):
                seen = await who_saw(index, record.source, record.id)
                expected = Counter(
                    (name, number, row["subject"], row["stream"], body["decisions"][d]["output"]["effect"])
                    for name, number, _, body in bodies(ledgers, "delivery")
                    for p, o, d in places_of(body["places"])
                    if (body["class"]["topic"], p, o) == (topic, record.partition, record.offset)
                    for row in body["receivers"]
                )
                found = Counter((s.instance, s.index, s.subject, s.stream, s.effect) for s in seen.sightings)
                assert found == expected
                looked += found.total()
                (publication,) = seen.publications
                assert (publication.topic, publication.partition, publication.offset) == (
                    *(topic, record.partition, record.offset),
                )
                assert (publication.owner, publication.labels["dataclassification"]) == (
                    *(record.owner, record.label),
                )
                for sighting in seen.sightings:
                    assert sighting.ended == ends.get(sighting.stream)
                    assert sighting.treatments == sighting.decision["output"]["treatments"]  # type: ignore[index,call-overload]
                assert [s.time_ms for s in seen.sightings] == sorted(s.time_ms for s in seen.sightings)
        assert looked > 100

    async def test_who_acknowledged(self, ledgers: FakeLedgers, index: SqliteAuditIndex) -> None:
        acknowledged: dict[str, list[tuple[int, list[int]]]] = {}
        for _, _, time_ms, body in bodies(ledgers, "acknowledged"):
            for row in body["acknowledged"]:
                acknowledged.setdefault(row["stream"], []).append((time_ms, row["to"]))
        told = Counter[bool]()
        for records in ledgers.records["crash-reports"]:
            for record in records[::5]:
                for sighting in await index.sightings(record.source, record.id):
                    beyond = [
                        time_ms
                        for time_ms, to in acknowledged.get(sighting.stream, [])
                        if to[record.partition] > record.offset
                    ]
                    assert sighting.acknowledged_ms == (beyond[0] if beyond else None)
                    assert sighting.acknowledged or not beyond
                    told[sighting.acknowledged] += 1
        assert told[True] > 20 and told[False] > 5

    async def test_the_next_stream_shows_what_was_acknowledged_last(self, tmp_path: Path) -> None:
        """An instance stopped before it could write the last acknowledgement; the subscription went on all the same."""
        for stored in (True, False):
            ledgers = FakeLedgers(seed=1, withhold=False)
            broker = ledgers.instances["broker"]
            (record,) = ledgers.publish(broker, "crash-reports", 1)
            stream = ledgers.open(broker, PEOPLE[0], "crash-reports", "main")
            ledgers.deliver(broker, stream)
            broker.streams.clear()
            if stored:
                ledgers.store["transport", "analyst-1", "main"] = (stream.epoch, stream.cursor())
            ledgers.open(broker, PEOPLE[0], "crash-reports", "main")
            index = await SqliteAuditIndex.open(tmp_path / f"{stored}.sqlite", EXCHANGE)
            await index.update(ledgers.reader())
            (sighting,) = await index.sightings(record.source, record.id)
            assert (sighting.acknowledged, sighting.acknowledged_ms) == (stored, None)
            assert sighting.ended is None
            await index.close()

    async def test_nobody_saw_what_is_not_there(self, index: SqliteAuditIndex) -> None:
        seen = await who_saw(index, "//nobody/system", "none")
        assert (seen.publications, seen.sightings, seen.complete) == ((), (), True)

    async def test_it_says_when_it_cannot_know_all(self, ledgers: FakeLedgers, tmp_path: Path) -> None:
        reader = ledgers.reader()
        reader.change("second", 9, openings=b"")
        index = await SqliteAuditIndex.open(tmp_path / "erased.sqlite", EXCHANGE)
        await index.update(reader)
        record = ledgers.records["crash-reports"][0][0]
        assert not (await who_saw(index, record.source, record.id)).complete
        await index.close()

    @pytest.mark.parametrize("zone_minutes", [0, 330, -600])
    async def test_what_saw_adds_up(
        self, ledgers: FakeLedgers, index: SqliteAuditIndex, zone_minutes: int
    ) -> None:
        zone = timedelta(minutes=zone_minutes)
        for agency in ("transport", "ems", "partner-cert"):
            expected = Counter[tuple[object, ...]]()
            for *_, time_ms, body in bodies(ledgers, "delivery"):
                if body["class"]["agency"] != agency:
                    continue
                day = (datetime.fromtimestamp(time_ms / 1000, UTC) + zone).date().isoformat()
                for *_, number in places_of(body["places"]):
                    decision = body["decisions"][number]
                    record = decision["input"]["record"]
                    key = (
                        *(day, body["class"]["topic"], body["class"]["purpose"], record["type"]),
                        *(record["agency"], str(sorted(record["labels"].items(), key=str))),
                        decision["output"]["effect"],
                    )
                    expected[(*key, "records")] += 1
                    expected[(*key, "handed_out")] += len(body["receivers"])
            found = Counter[tuple[object, ...]]()
            for row in await what_saw(index, agency, zone_minutes=zone_minutes):
                labels = str(sorted(row.labels.items(), key=str))
                key = (row.day, row.topic, row.purpose, row.type, row.owner, labels, row.effect)
                found[(*key, "records")] += row.records
                found[(*key, "handed_out")] += row.handed_out
            assert found == expected

    async def test_what_saw_of_one_topic_or_owner(self, index: SqliteAuditIndex) -> None:
        everything = await what_saw(index, "transport")

        def only(**wanted: str) -> list[Reception]:
            return [row for row in everything if all(getattr(row, n) == v for n, v in wanted.items())]

        assert await what_saw(index, "transport", "crash-reports") == only(topic="crash-reports") != []
        by_owner = await what_saw(index, "transport", owner="cyber-centre")
        assert by_owner == only(owner="cyber-centre") != []
        both = await what_saw(index, "transport", "indicators", owner="highway-patrol")
        assert both == only(topic="indicators", owner="highway-patrol") == []
        assert await what_saw(index, "nobody") == []

    async def test_names_of_places(self, ledgers: FakeLedgers, index: SqliteAuditIndex) -> None:
        records = [record for records in ledgers.records["indicators"] for record in records]
        places = [(record.partition, record.offset) for record in records]
        expected = {(r.partition, r.offset): (r.source, r.id) for r in records}
        assert await index.names("indicators", [*places, (0, 10**6)]) == expected
        assert await index.names("nothing", places) == {}
        assert await index.names("indicators", []) == {}


def concerned(body: dict[str, Any]) -> set[str]:
    """The agencies of an entry: whose people, and of deliveries whose records."""
    found = {body["who"]["agency"]} if "who" in body else set()
    found |= {row["agency"] for row in body.get("acknowledged", ())}
    if "class" in body:
        found.add(body["class"]["agency"])
        found |= {each["input"]["record"]["agency"] for each in body.get("decisions", ())}
    return found
