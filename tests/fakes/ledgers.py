"""Whole ledgers, made up but consistent: instances, publishers, streams in groups, withheld records, crashes, rotations.

Everything follows from the seed. What goes wrong in a real exchange and leaves a sound ledger happens here too: instances
that stop without a word, engines that let owners lag, takeovers, seeks, clocks that step.
"""

from __future__ import annotations

import base64
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any, cast

from broker.core.checkpoint.checkpoint import Checkpoint, sign_checkpoint
from broker.core.checkpoint.note import Signer, VerifierKey
from broker.core.ledger.handed_out import content_digest, derive_secret, handed_out_root, item_keys
from broker.core.ledger.leaf import encode
from broker.core.merkle.hashing import leaf_hash
from broker.core.merkle.tree import CompactTree
from broker.model.ledger import (
    EncodedEntry,
    JsonValue,
    LedgerEntry,
    Place,
    ReadEntries,
    ReadPoint,
    StoredCheckpoint,
)
from broker.model.rulebook import Revision, revision_id

EXCHANGE = "test exchange"
ORIGIN = "test-exchange"
START_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z
DIGEST_KEY = b"\x07" * 32
REVISION = Revision(revision_id({"a.rego": b"package a\n"}), {"a.rego": b"package a\n"}, time_dependent=False)
RULES: dict[str, JsonValue] = {"revision": REVISION.id, "engine": "opa 1.22.2"}
TOPICS = {"crash-reports": 2, "indicators": 3}
OWNERS = ("highway-patrol", "cyber-centre")
LABELS = ("clear", "green", "amber", "red")
PAGE = 64


@dataclass(frozen=True)
class Person:
    """A subscriber or publisher; `sees`: the labels that the rulebook releases to this agency."""

    agency: str
    subject: str
    purpose: str
    sees: frozenset[str]

    def who(self) -> dict[str, JsonValue]:
        return {
            "agency": self.agency,
            "subject": self.subject,
            "roles": ["analyst"],
            "attributes": {"clearance": "amber"},
            "token": f"token-of-{self.subject}",
            "certificate": None,
        }


PEOPLE = (
    Person("transport", "analyst-1", "road-safety", frozenset({"clear", "green"})),
    Person("transport", "analyst-2", "road-safety", frozenset({"clear", "green"})),
    Person("ems", "paramedic-1", "emergency-response", frozenset({"clear", "green", "amber"})),
    Person("partner-cert", "analyst-9", "cyber-defence", frozenset({"clear"})),
)


@dataclass(frozen=True)
class Record:
    """A stored record."""

    topic: str
    partition: int
    offset: int
    source: str
    id: str
    owner: str
    label: str


@dataclass
class Stream:
    """An open stream and what the ledger does not say of it yet."""

    person: Person
    topic: str
    subscription: str
    epoch: int
    stream: str
    next: list[int]
    lags: dict[tuple[int, str], int] = field(default_factory=dict)
    since: dict[str, JsonValue] = field(default_factory=dict)
    outcomes: Counter[str] = field(default_factory=Counter)
    withheld: dict[str, int] = field(default_factory=dict)
    acknowledged: list[int] = field(default_factory=list)

    def standing(self) -> dict[str, JsonValue]:
        lags: list[JsonValue] = [[p, owner, at] for (p, owner), at in sorted(self.lags.items())]
        return {"next": list(self.next), "lags": lags}

    def cursor(self) -> list[int]:
        cursor = list(self.next)
        for (partition, _), offset in self.lags.items():
            cursor[partition] = min(cursor[partition], offset)
        return cursor

    def named(self) -> dict[str, JsonValue]:
        return {
            "topic": self.topic,
            "purpose": self.person.purpose,
            "subscription": self.subscription,
            "epoch": self.epoch,
            "stream": self.stream,
        }

    def group(self) -> tuple[object, ...]:
        return (self.person.agency, self.person.purpose, self.topic, tuple(self.next), str(self.lags))


@dataclass(frozen=True)
class Handed:
    """What one consumer or publisher keeps: the entry's place, its secret, and the hashes of what it was about."""

    kind: str
    agency: str
    subject: str
    topic: str
    place: Place
    secret: bytes
    contents: list[JsonValue]


@dataclass
class Instance:
    """One instance's log, tree and signer."""

    name: str
    signer: Signer
    epoch: int = 1
    entries: list[EncodedEntry] = field(default_factory=list)
    plain: list[LedgerEntry] = field(default_factory=list)
    tree: CompactTree = field(default_factory=CompactTree)
    checkpoints: list[StoredCheckpoint] = field(default_factory=list)
    streams: list[Stream] = field(default_factory=list)


class FakeLedgers:
    """A small exchange that only writes its ledgers. Methods that write take the instance.

    lie: changes an entry's body before it is written, as a broker would that does not tell the truth.
    """

    def __init__(
        self, seed: int = 1, instances: Sequence[str] = ("broker",), *, withhold: bool = True
    ) -> None:
        self.random = random.Random(seed)
        self.salts = random.Random(seed + 1_000_000)
        self.withhold = withhold
        self.now_ms = START_MS
        self.epochs = 0
        self.records: dict[str, list[list[Record]]] = {t: [[] for _ in range(n)] for t, n in TOPICS.items()}
        self.store: dict[tuple[str, str, str], tuple[int, list[int]]] = {}
        self.handed: list[Handed] = []
        self.lie: Callable[[str, dict[str, Any]], object] | None = None
        self.keys: list[VerifierKey] = []
        self.signers: list[Signer] = []
        self.signer = self._new_signer()
        self.instances = {name: Instance(name, self.signer) for name in instances}
        for instance in self.instances.values():
            self.configuration(instance)

    # ---- entries and checkpoints ----

    def write(
        self, instance: Instance, kind: str, roots: dict[str, bytes] | None = None, **body: JsonValue
    ) -> Place:
        if self.lie is not None:
            body = deepcopy(body)
            self.lie(kind, body)
        entry = LedgerEntry(kind, self.now_ms, {**body, "rules": RULES}, roots or {})
        salt = self.salts.randbytes(32)
        encoded = encode(entry, instance.name, instance.epoch, instance.tree.size, salt)
        place = Place(instance.name, instance.epoch, instance.tree.size, leaf_hash(encoded.leaf))
        instance.entries.append(encoded)
        instance.plain.append(entry)
        instance.tree.append(place.leaf_hash)
        return place

    def checkpoint(self, instance: Instance, *signers: Signer) -> StoredCheckpoint:
        checkpoint = Checkpoint(f"{ORIGIN}/{instance.name}", instance.tree.size, instance.tree.root())
        named = [Signer(checkpoint.origin, seed_of(signer)) for signer in signers or (instance.signer,)]
        stored = StoredCheckpoint(sign_checkpoint(checkpoint, named), instance.tree.frontier)
        instance.checkpoints.append(stored)
        return stored

    def configuration(self, instance: Instance) -> None:
        self.write(
            instance,
            "configuration",
            start={
                "version": "0.2.0",
                "exchange": EXCHANGE,
                "backend": "embedded",
                "instance": instance.name,
                "epoch": instance.epoch,
                "insecure": [],
                "limits": {},
                "keys": {"cursor": 0, "digest": 0, "ledger": 0, "receipt": 0},
                "ledger_key": instance.signer.verifier_key.text(),
            },
        )

    def restart(self, instance: Instance) -> None:
        """Without a word: what its streams had considered is never accounted for, nor what they acknowledged last."""
        for stream in instance.streams:
            if stream.subscription and self.random.random() < 0.5:
                key = (stream.person.agency, stream.person.subject, stream.subscription)
                self.store[key] = (stream.epoch, stream.cursor())
        instance.streams.clear()
        instance.epoch += 1
        self.configuration(instance)

    def rotate(self, instance: Instance) -> None:
        """The key changes at a start; the next checkpoint bears both signatures."""
        old, new = instance.signer, self._new_signer()
        change: dict[str, JsonValue] = {
            "use": "ledger",
            "from": {"id": 0, "key": old.verifier_key.text()},
            "to": {"id": 1, "key": new.verifier_key.text()},
        }
        instance.signer = new
        self.write(instance, "key_rotated", change=change)
        self.checkpoint(instance, old, new)

    def small(self, instance: Instance) -> None:
        """One entry of a kind that accounts for no records."""
        who = self.random.choice(PEOPLE).who()
        call: dict[str, JsonValue] = {"method": "Subscribe", "reason": "TOPIC_NOT_FOUND", "reference": "r-1"}
        refused: dict[str, JsonValue] = {"peer": "192.0.2.1", "reason": "TOKEN_INVALID", "count": 12}
        kinds: list[tuple[str, dict[str, JsonValue]]] = [
            ("call_refused", {"who": who, "call": call, "decisions": []}),
            ("refused_aggregate", {"refused": refused}),
            ("preview", {"who": who, "call": {"topic": "indicators", "reference": "r-2", "records": 3}}),
            ("clock_step", {"step": {"expected_ms": self.now_ms, "found_ms": self.now_ms - 5_000}}),
            ("ledger_read", {"who": who, "query": {"method": "WhoSaw", "about": {"id": "7"}}}),
        ]
        kind, body = self.random.choice(kinds)
        if kind == "clock_step":
            self.now_ms -= 5_000
        self.write(instance, kind, **body)

    # ---- records ----

    def publish(self, instance: Instance, topic: str, count: int) -> list[Record]:
        owner = OWNERS[list(TOPICS).index(topic)]
        publisher = Person(owner, f"feed-of-{owner}", "", frozenset())
        nonce = self.salts.randbytes(16)
        secret = derive_secret(DIGEST_KEY, nonce)
        keys = item_keys(secret, count + 1)
        rows: list[JsonValue] = []
        stored = [self._store(topic, owner) for _ in range(count)]
        contents: list[JsonValue] = []
        for record, key in zip(stored, keys, strict=False):
            content = sha256(record.id.encode()).digest()[:16]
            contents.append([record.source, record.id, content.hex()])
            rows.append(
                {
                    **self._row(record),
                    "duplicate": False,
                    "decision": 0,
                    "digest": content_digest(key, content).hex(),
                }
            )
        places: list[JsonValue] = [[record.partition, record.offset] for record in stored]
        if self.random.random() < 0.2:
            rows.append({"refused": "RECORD_INVALID"})
            places.append(None)
        place = self.write(
            instance,
            "publish",
            who=publisher.who(),
            call={"topic": topic, "reference": "r-3"},
            records=rows,
            stored=places,
            decisions=[self._decision("publish", publisher, topic, owner, "clear", "release")],
            digest={"nonce": base64.b64encode(nonce).decode(), "key": 0},
        )
        self.handed.append(Handed("publish", owner, publisher.subject, topic, place, secret, contents))
        return stored

    def _store(self, topic: str, owner: str) -> Record:
        partitions = self.records[topic]
        partition = self.random.randrange(len(partitions))
        offset = len(partitions[partition])
        record = Record(
            topic,
            partition,
            offset,
            f"//{owner}/system",
            f"{topic}-{partition}-{offset}",
            owner,
            self.random.choice(LABELS) if self.withhold else "clear",
        )
        partitions[partition].append(record)
        return record

    def _row(self, record: Record) -> dict[str, JsonValue]:
        labels: dict[str, JsonValue] = {
            "dataclassification": record.label,
            "dataregulation": [],
            "datacategory": None,
            "purposes": [],
            "releasableto": [],
        }
        return {"source": record.source, "id": record.id, "type": f"gov.{record.topic}.v1", "labels": labels}

    # ---- subscriptions and streams ----

    def open(self, instance: Instance, person: Person, topic: str, subscription: str = "") -> Stream:
        epoch, start, cause = 0, [0] * TOPICS[topic], "start"
        key = (person.agency, person.subject, subscription)
        if subscription:
            if key not in self.store:
                self.create(instance, person, topic, subscription)
            cause = "takeover" if self._close_others(instance, key) else "resumed"
            epoch, start = self.store[key]
            epoch += 1
            self.store[key] = (epoch, list(start))
        stream = Stream(person, topic, subscription, epoch, self.random.randbytes(8).hex(), list(start))
        stream.since, stream.acknowledged = stream.standing(), list(start)
        decision = self._decision("subscribe", person, topic, None, "clear", "release")
        self.write(instance, "stream_opened", who=person.who(), stream=stream.named(), decisions=[decision])
        came_from: JsonValue = list(start) if subscription else None
        move: dict[str, JsonValue] = {"from": came_from, "to": list(start), "cause": cause}
        self.write(instance, "moved", who=person.who(), stream=stream.named(), move=move)
        instance.streams.append(stream)
        return stream

    def create(self, instance: Instance, person: Person, topic: str, subscription: str) -> None:
        start = [0] * TOPICS[topic]
        self._change(instance, person, topic, subscription, "create")
        move: dict[str, JsonValue] = {"from": None, "to": list(start), "cause": "created"}
        named = self._unopened(person, topic, subscription)
        self.write(instance, "moved", who=person.who(), stream=named, move=move)
        self.epochs += 1_000
        self.store[person.agency, person.subject, subscription] = (self.epochs, start)

    def delete(self, instance: Instance, person: Person, topic: str, subscription: str) -> None:
        key = (person.agency, person.subject, subscription)
        self._change(instance, person, topic, subscription, "delete")
        self._close_others(instance, key)
        del self.store[key]

    def _change(self, instance: Instance, person: Person, topic: str, subscription: str, change: str) -> None:
        changed: dict[str, JsonValue] = {
            "change": change,
            "subscription": subscription,
            "topic": topic,
            "purpose": person.purpose,
        }
        self.write(instance, "subscription", who=person.who(), change=changed)

    def _unopened(self, person: Person, topic: str, subscription: str) -> dict[str, JsonValue]:
        return {
            "topic": topic,
            "purpose": person.purpose,
            "subscription": subscription,
            "epoch": 0,
            "stream": "",
        }

    def _close_others(self, opener: Instance, key: tuple[str, str, str]) -> bool:
        """A stream that is taken over ends, on whichever instance; that its end is written first keeps this simple."""
        taken = False
        for instance in self.instances.values():
            for stream in list(instance.streams):
                if (stream.person.agency, stream.person.subject, stream.subscription) == key:
                    self.close(instance, stream, "SUBSCRIPTION_TAKEN_OVER")
                    taken = True
        return taken

    def close(self, instance: Instance, stream: Stream, cause: str = "completed") -> None:
        if self.random.random() < 0.5 and cause == "completed":
            self.acknowledge(instance, [stream])
        instance.streams.remove(stream)
        end: dict[str, JsonValue] = {"cause": cause, "standing": stream.standing()}
        if cause == "POLICY_DENIED":
            end["decisions"] = [
                self._decision("subscribe", stream.person, stream.topic, None, "clear", "withhold")
            ]
        self.write(
            instance,
            "stream_closed",
            who=stream.person.who(),
            stream=stream.named(),
            end=end,
            considered=[self._history(stream)],
        )

    def refresh(self, instance: Instance, stream: Stream) -> None:
        """The class changed while an entry was written that names the stream: it goes on from where it really stood."""
        if stream.since != stream.standing():
            return
        told = stream.cursor()
        stream.next = [max(told[n] - 1, stream.acknowledged[n]) for n in range(len(told))]
        stream.lags = {}
        move: dict[str, JsonValue] = {"from": list(told), "to": list(stream.next), "cause": "refreshed"}
        self.write(instance, "moved", who=stream.person.who(), stream=stream.named(), move=move)
        stream.since = stream.standing()

    def seek(self, instance: Instance, person: Person, topic: str, subscription: str) -> None:
        key = (person.agency, person.subject, subscription)
        self._close_others(instance, key)
        epoch, where = self.store[key]
        to = [self.random.randint(0, position) for position in where]
        self._change(instance, person, topic, subscription, "seek")
        move: dict[str, JsonValue] = {"from": list(where), "to": list(to), "cause": "seek"}
        named = self._unopened(person, topic, subscription)
        self.write(instance, "moved", who=person.who(), stream=named, move=move)
        self.store[key] = (epoch + 1, to)

    def deliver(self, instance: Instance, stream: Stream, limit: int = 4) -> list[Place]:
        """One step for all streams of this one's group; an entry only if something goes out."""
        group = [member for member in instance.streams if member.group() == stream.group()]
        considered = self._consider(stream, limit)
        released = [(record, effect) for record, effect in considered if effect in ("release", "notice")]
        person = stream.person
        decisions: dict[str, int] = {}
        texts: list[JsonValue] = []
        places: list[tuple[int, int, int]] = []
        for record, effect in released:
            name = f"{record.label}/{effect}"
            if name not in decisions:
                decisions[name] = len(texts)
                texts.append(
                    self._decision("deliver", person, stream.topic, record.owner, record.label, effect)
                )
            places.append((record.partition, record.offset, decisions[name]))
        for member in group:
            member.next, member.lags = list(stream.next), dict(stream.lags)
            for record, effect in considered:
                member.outcomes[effect] += 1
                if effect == "withhold":
                    name = f"{record.owner}/{record.label}"
                    member.withheld[name] = member.withheld.get(name, 0) + 1
        if not places and len(stream.withheld) < 3:
            return []
        return [self._delivery(instance, group, places, texts)]

    def _consider(self, stream: Stream, limit: int) -> list[tuple[Record, str]]:
        """Move the stream on, over up to `limit` records of each partition; owners' records may begin or cease to lag."""
        considered = []
        for (partition, owner), since in list(stream.lags.items()):
            for record in self.records[stream.topic][partition][since : stream.next[partition]]:
                if record.owner == owner:
                    considered.append((record, self._effect(stream.person, record)))
            del stream.lags[partition, owner]
        for partition, records in enumerate(self.records[stream.topic]):
            for record in records[stream.next[partition] : stream.next[partition] + limit]:
                behind = (partition, record.owner) in stream.lags
                if not behind and self.withhold and self.random.random() < 0.02:
                    stream.lags[partition, record.owner] = record.offset
                elif not behind:
                    considered.append((record, self._effect(stream.person, record)))
                stream.next[partition] = record.offset + 1
        return considered

    def _effect(self, person: Person, record: Record) -> str:
        if record.label in person.sees:
            return "release"
        return "notice" if record.label == "amber" and person.agency == "transport" else "withhold"

    def _delivery(
        self,
        instance: Instance,
        group: list[Stream],
        places: list[tuple[int, int, int]],
        decisions: list[JsonValue],
    ) -> Place:
        histories: list[JsonValue] = []
        whose: list[list[JsonValue]] = []
        receivers: list[JsonValue] = []
        for member in group:
            history = self._history(member)
            if history not in histories:
                histories.append(history)
                whose.append([])
            whose[histories.index(history)].append(len(receivers))
            receivers.append(
                {
                    "subject": member.person.subject,
                    "token": f"token-of-{member.person.subject}",
                    "certificate": None,
                    "subscription": member.subscription,
                    "epoch": member.epoch,
                    "stream": member.stream,
                }
            )
            member.since, member.outcomes, member.withheld = member.standing(), Counter(), {}
        nonce = self.salts.randbytes(16)
        secret = derive_secret(DIGEST_KEY, nonce)
        contents = [sha256(b"delivery %d %d" % (p, o)).digest() for p, o, _ in places]
        first = group[0]
        place = self.write(
            instance,
            "delivery",
            {"handed_out": handed_out_root(secret, contents)},
            **{"class": self._class(first)},
            receivers=receivers,
            count=len(places),
            digest={"nonce": base64.b64encode(nonce).decode(), "key": 0},
            places=[list(place) for place in places],
            decisions=decisions,
            considered=[
                {**cast(dict[str, JsonValue], history), "receivers": numbers}
                for history, numbers in zip(histories, whose, strict=True)
            ],
        )
        hashes: list[JsonValue] = [content.hex() for content in contents]
        for member in group:
            who = member.person
            self.handed.append(
                Handed("delivery", who.agency, who.subject, first.topic, place, secret, hashes)
            )
        return place

    def _class(self, stream: Stream) -> dict[str, JsonValue]:
        who = stream.person.who()
        return {
            "topic": stream.topic,
            "agency": stream.person.agency,
            "roles": who["roles"],
            "attributes": who["attributes"],
            "purpose": stream.person.purpose,
        }

    def _history(self, stream: Stream) -> dict[str, JsonValue]:
        withheld: list[JsonValue] = []
        for name, count in stream.withheld.items():
            owner, label = name.split("/")
            decision = self._decision("deliver", stream.person, stream.topic, owner, label, "withhold")
            withheld.append([decision, count])
        outcomes: dict[str, JsonValue] = dict(stream.outcomes)
        return {"from": stream.since, "to": stream.standing(), "outcomes": outcomes, "withheld": withheld}

    def acknowledge(self, instance: Instance, streams: Sequence[Stream]) -> None:
        """All that was handed out to these, in one entry."""
        rows: list[JsonValue] = []
        for stream in streams:
            person, stream.acknowledged = stream.person, stream.cursor()
            if stream.subscription:
                self.store[person.agency, person.subject, stream.subscription] = (
                    stream.epoch,
                    stream.cursor(),
                )
            rows.append(
                {
                    "agency": person.agency,
                    "subject": person.subject,
                    "topic": stream.topic,
                    "subscription": stream.subscription,
                    "epoch": stream.epoch,
                    "stream": stream.stream,
                    "to": stream.cursor(),
                }
            )
        if rows:
            self.write(instance, "acknowledged", acknowledged=rows)

    def _decision(
        self, action: str, person: Person, topic: str, owner: str | None, label: str, effect: str
    ) -> dict[str, JsonValue]:
        subject: dict[str, JsonValue] = {
            "agency": person.agency,
            "roles": ["analyst"],
            "attributes": {"clearance": "amber"},
        }
        subject |= {"purpose": person.purpose} if action != "publish" else {}
        subject |= {"id": person.subject} if action != "deliver" else {}
        asked: dict[str, JsonValue] = {"action": action, "subject": subject, "topic": topic}
        if owner is not None:
            asked["record"] = {
                "type": f"gov.{topic}.v1",
                "agency": owner,
                "labels": {"classification": label, "regulation": [], "category": None},
                "markings": ["medical", "pii", "unreviewed"],
            }
        output: dict[str, JsonValue] = {
            "effect": effect,
            "treatments": {"pii": {"kind": "mask", "keep_first": 1}, "medical": {"kind": "keep"}},
            "obligations": ["delete-after-30-days"],
            "reasons": ["agreement-7"],
        }
        return {"input": asked, "output": output}

    def _new_signer(self) -> Signer:
        seed = self.salts.randbytes(32)
        signer = Signer(ORIGIN, seed)
        _SEEDS[signer.verifier_key.public_key] = seed
        self.keys.append(signer.verifier_key)
        self.signers.append(signer)
        return signer

    # ---- a life ----

    def live(self, rounds: int, *, checkpoint_every: int = 10) -> None:
        """So many rounds in which something happens on each instance, each with its checkpoint now and then."""
        for round_number in range(rounds):
            for instance in self.instances.values():
                self.now_ms += self.random.randrange(1, 2_000)
                self._happen(instance)
                if round_number % checkpoint_every == checkpoint_every - 1:
                    self.checkpoint(instance)

    def _happen(self, instance: Instance) -> None:
        chance = self.random.random()
        if chance < 0.25 or not instance.streams:
            self.publish(instance, self.random.choice(list(TOPICS)), self.random.randrange(1, 5))
        if chance < 0.1:
            person = self.random.choice(PEOPLE)
            name = self.random.choice(("", "main", "main", "spare"))
            topic = list(TOPICS)[len(name) % 2]
            self.open(instance, person, topic, name)
        elif chance < 0.13 and instance.streams:
            self.close(instance, self.random.choice(instance.streams))
        elif chance < 0.15 and self.store:
            agency, subject, name = self.random.choice(list(self.store))
            person = next(p for p in PEOPLE if (p.agency, p.subject) == (agency, subject))
            change = self.seek if self.random.random() < 0.7 else self.delete
            change(instance, person, list(TOPICS)[len(name) % 2], name)
        elif chance < 0.2:
            self.small(instance)
        elif chance < 0.21:
            self.restart(instance)
        elif chance < 0.22:
            self.rotate(instance)
        elif chance < 0.24 and instance.streams:
            self.refresh(instance, self.random.choice(instance.streams))
        elif instance.streams:
            stream = self.random.choice(instance.streams)
            self.deliver(instance, stream)
            if self.random.random() < 0.4:
                self.acknowledge(instance, instance.streams)

    def finish(self) -> None:
        """A last checkpoint of each."""
        for instance in self.instances.values():
            self.checkpoint(instance)

    def reader(self) -> FakeReader:
        """A reader of copies, which a test may change."""
        return FakeReader(
            {name: list(instance.entries) for name, instance in self.instances.items()},
            {name: list(instance.checkpoints) for name, instance in self.instances.items()},
        )


_SEEDS: dict[bytes, bytes] = {}


def seed_of(signer: Signer) -> bytes:
    """The seed of a signer that was made here."""
    return _SEEDS[signer.verifier_key.public_key]


def make_ledgers(
    seed: int = 1, rounds: int = 200, instances: Sequence[str] = ("broker", "second")
) -> FakeLedgers:
    """A whole life, closed with a checkpoint."""
    ledgers = FakeLedgers(seed, instances)
    ledgers.live(rounds)
    ledgers.finish()
    return ledgers


@dataclass
class FakeReader:
    """The LedgerReader port on lists."""

    entries: dict[str, list[EncodedEntry]]
    stored: dict[str, list[StoredCheckpoint]]
    first: dict[str, int] = field(default_factory=dict)

    async def instances(self) -> Sequence[str]:
        return sorted(self.entries)

    async def read(self, instance: str, point: ReadPoint) -> AsyncIterator[ReadEntries]:
        entries = list(self.entries[instance])
        begin = self.first.get(instance, 0)
        for at in range(point.store, len(entries), PAGE):
            page = tuple(entries[at : at + PAGE])
            yield ReadEntries(page, ReadPoint(at + len(page), 0, begin + at + len(page)))

    async def checkpoints(self, instance: str, place: int = 0) -> AsyncIterator[StoredCheckpoint]:
        for number, stored in enumerate(self.stored.get(instance, [])[place:], place):
            yield replace(stored, next_place=number + 1)

    async def close(self) -> None:
        return None

    def change(self, instance: str, index: int, **changes: bytes) -> None:
        """Another leaf or other openings at an index."""
        self.entries[instance][index] = replace(self.entries[instance][index], **changes)
