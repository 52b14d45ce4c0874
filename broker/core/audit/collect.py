"""Accounting within one stretch of entries: what each kind of entry says of streams, places and subscriptions."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import orjson

from broker.core.audit.chunk import ASK, BROKEN, Change, Chunk, StreamName, StreamPart
from broker.core.audit.considered import NOTHING, HandedOut, Histories, History, Ruled
from broker.core.audit.forms import FORMS
from broker.core.audit.opening import Opened, parse
from broker.core.audit.places import Places
from broker.core.audit.recorded import ended_by_its_own
from broker.core.audit.rows import topic_of
from broker.core.audit.standings import Text, beginning, greatest, read_standing, standing_text
from broker.core.audit.texts import Texts
from broker.core.ledger.leaf import EntryInvalid
from broker.core.merkle.hashing import HASH_BYTES

_GROUPS, _IN_GROUP, _TEXTS = 512, 128, 4_096
_STREAM_ID_DIGITS = 16
_CLASS, _COUNT, _DECISIONS, _PLACES = (
    FORMS["delivery"].at[name] for name in ("class", "count", "decisions", "places")
)


Receiver = tuple[str, StreamName]
"""A receiver's stream, and whose that is."""


class Group:
    """What is known of one class of receivers. rulings: by what its deliveries say of decisions."""

    __slots__ = ("_last", "_receivers", "_value", "rulings", "topic")

    def __init__(self, content: bytes) -> None:
        """Raises ValueError, LookupError or TypeError for what is no class."""
        self._value = parse(content)
        self.topic: str = self._value["topic"]
        self.rulings = Texts(lambda decisions: Ruled.of(parse(decisions), self._value), _IN_GROUP)
        self._receivers = Texts(self._receiver, _IN_GROUP)
        self._last: tuple[list[bytes], list[Receiver]] = [], []

    def receivers(self, openings: list[bytes]) -> list[Receiver]:
        """The receivers' streams; delivery after delivery is to the same ones."""
        if openings != self._last[0]:
            self._last = openings, [self._receivers.get(opening) for opening in openings]
        return self._last[1]

    def _receiver(self, opening: bytes) -> Receiver:
        (_, row), of = parse(opening), self._value
        whose = (of["agency"], row["subject"], row["subscription"], row["epoch"])
        return row["stream"], (*whose, of["topic"], of["purpose"])


class Memory:
    """What recurs from entry to entry, read once: shared by the stretches that one process examines."""

    def __init__(self) -> None:
        self.histories = Histories()
        self.groups = Texts(Group, _GROUPS)
        self.revisions: Texts[str] = Texts(lambda rules: parse(rules)["revision"], _TEXTS)
        self.counts = Texts(lambda several: len(parse(several)), _TEXTS)


class Collector:
    """Takes a stretch's entries in order and fills its chunk."""

    def __init__(self, chunk: Chunk, memory: Memory) -> None:
        self._chunk = chunk
        self._memory = memory
        self._histories = memory.histories
        self._published = Places()
        self._released = Places()
        self._rules = b""
        self._kinds: dict[str, Callable[[Opened], None]] = {
            "acknowledged": self._acknowledged,
            "configuration": self._configuration,
            "delivery": self._delivery,
            "key_rotated": self._key_rotated,
            "moved": self._moved,
            "publish": self._publish,
            "stream_closed": self._stream_closed,
            "stream_opened": self._stream_opened,
            "subscription": self._subscription,
        }

    def add(self, entry: Opened) -> None:
        """One entry with openings, at the index that it has."""
        collect = self._kinds.get(entry.kind)
        try:
            rules = entry.content("rules")
            if rules != self._rules:
                self._memory.revisions.get(rules)
                self._rules = rules
            if collect is not None:
                collect(entry)
        except EntryInvalid as error:
            self._chunk.fault(entry.index, str(error), BROKEN)
        except (LookupError, TypeError, ValueError, AttributeError):
            what = f"the parts of this {entry.kind} entry have not their documented form"
            self._chunk.fault(entry.index, what, BROKEN)

    def finish(self) -> None:
        """Hand over what was collected of places."""
        self._chunk.published = self._published.pages()
        self._chunk.released = self._released.pages()
        self._chunk.released_at = self._released.firsts

    # ---- records ----

    def _publish(self, entry: Opened) -> None:
        topic, decisions = topic_of(entry), self._memory.counts.get(entry.content("decisions"))
        places = orjson.loads(entry.content("stored"))
        if len(entry.listed) != len(places):
            self._chunk.fault(entry.index, "there are not as many places as records", BROKEN)
        for place in places:
            if place is not None:
                partition, offset = place
                self._published.add(topic, partition, offset)
        for opening in entry.listed:
            _, row = parse(opening)
            if not 0 <= row.get("decision", 0) <= max(decisions - 1, 0):
                self._chunk.fault(entry.index, "a record names a decision that is not there", BROKEN)

    def _delivery(self, entry: Opened) -> None:
        index, taken = entry.index, entry.taken or ()
        group = self._memory.groups.get(taken[_CLASS])
        ruled = group.rulings.get(taken[_DECISIONS])
        receivers = group.receivers(entry.listed)
        handed = HandedOut(orjson.loads(taken[_PLACES]), ruled)
        handed.note(self._released, group.topic, index)
        if taken[_COUNT] != b"%d" % handed.total:
            self._chunk.fault(index, "the count is not that of the places handed out", BROKEN)
        if len(entry.handed_out) != HASH_BYTES:
            raise ValueError("no root")
        for fault in ruled.faults:
            self._chunk.fault(index, fault, ASK)
        histories = self._histories.read(entry)
        for history in histories:
            what = self._histories.check(history, handed)
            if what is not None:
                self._chunk.fault(index, what, BROKEN)
        one = len(histories) == 1 and histories[0].receivers == numbers_to(len(receivers))
        whose = histories * len(receivers) if one else self._whose(index, histories, len(receivers))
        streams = self._chunk.streams
        for (stream, name), history in zip(receivers, whose, strict=bool(whose)):
            part = streams.get(stream)
            if part is None or part.name is not name or part.closed is not None or part.end is None:
                self._advance(self._stream(stream, name, index), index, history.since, history.until)
            elif part.end[1] != history.since:
                self._advance(part, index, history.since, history.until)
            else:
                part.end = (index, history.until)

    def _whose(self, index: int, histories: list[History], count: int) -> list[History]:
        """The history of each receiver, which has exactly one; else nobody can tell."""
        named = {number: history for history in histories for number in parse(history.receivers)}
        total = sum(len(parse(history.receivers)) for history in histories)
        if total != count or named.keys() != {*range(count)}:
            self._chunk.fault(index, "the histories are not of one receiver each", BROKEN)
            return []
        return [named[number] for number in range(count)]

    # ---- streams ----

    def _stream_opened(self, entry: Opened) -> None:
        stream = entry.value("stream")
        part = self._stream(stream["stream"], _name(entry), entry.index)
        if part.opened is not None or part.first != entry.index:
            self._chunk.fault(entry.index, "a stream is opened that was open before", ASK)
        part.opened = entry.index
        if any(decision["output"]["effect"] != "release" for decision in entry.shared("decisions")):
            self._chunk.fault(entry.index, "a stream was opened that its decision does not permit", ASK)

    def _moved(self, entry: Opened) -> None:
        stream, move = entry.value("stream"), entry.value("move")
        came_from, to = move["from"], move["to"]
        if not stream["stream"]:
            who = entry.shared("who")
            whose = (who["agency"], who["subject"], stream["subscription"])
            change = Change(whose, entry.index, entry.time_ms, move["cause"], came_from, to)
            self._chunk.changes.append(change)
            return
        part = self._stream(stream["stream"], _name(entry), entry.index)
        if move["cause"] == "refreshed":
            self._advance(part, entry.index, came_from, beginning(to))
            return
        if part.end is not None or part.moved is not None:
            self._chunk.fault(entry.index, "a stream is moved in its course", BROKEN)
            return
        part.moved = (entry.index, came_from, to, move["cause"])
        part.end = (entry.index, beginning(to))
        part.time_ms = entry.time_ms

    def _stream_closed(self, entry: Opened) -> None:
        stream, end = entry.value("stream"), entry.value("end")
        part = self._stream(stream["stream"], _name(entry), entry.index)
        for history in self._histories.read(entry):
            what = self._histories.check(history, NOTHING)
            if what is not None:
                self._chunk.fault(entry.index, what, BROKEN)
            self._advance(part, entry.index, history.since, history.until)
        if part.end is not None and part.end[1] != standing_text(end["standing"]):
            self._chunk.fault(entry.index, "a stream ends elsewhere than what it considered", BROKEN)
        if part.closed is not None:
            self._chunk.fault(entry.index, "a stream is closed twice", BROKEN)
        part.closed = entry.index
        if not ended_by_its_own(end, stream, entry.shared("who")):
            self._chunk.fault(entry.index, "a stream was ended by a decision about another", ASK)

    def _acknowledged(self, entry: Opened) -> None:
        for row in entry.value("acknowledged"):
            name = (row["agency"], row["subject"], row["subscription"], row["epoch"], row["topic"], "")
            part = self._stream(row["stream"], name, entry.index)
            to = row["to"]
            part.acknowledged = to if part.acknowledged is None else greatest(part.acknowledged, to)
            part.acknowledged_at = entry.index

    def _stream(self, stream: str, name: StreamName, index: int) -> StreamPart:
        part = self._chunk.streams.get(stream)
        if part is None:
            if len(stream) != _STREAM_ID_DIGITS or int(stream, 16) < 0:
                raise ValueError("no stream id")
            part = self._chunk.streams[stream] = StreamPart(name, index)
        elif part.name is not name and part.name != name:
            part.name = self._same(part.name, name, index)
        return part

    def _same(self, known: StreamName, name: StreamName, index: int) -> StreamName:
        """The stream's name; acknowledgements do not say the purpose."""
        if known[:-1] != name[:-1] or (known[-1] and name[-1] and known[-1] != name[-1]):
            self._chunk.fault(index, "a stream is another principal's, topic's or purpose's than before", ASK)
        return known if known[-1] else name

    def _advance(self, part: StreamPart, index: int, since: Text | list[int], until: Text) -> None:
        if part.closed is not None:
            self._chunk.fault(index, "a stream goes on after its end", ASK)
        if part.end is None:
            part.begin = (index, since)
        elif part.end[1] != since:
            known = joins(part.end[1], since) or self._chunk.erased_between(part.end[0], index)
            if not known:
                self._chunk.fault(index, joint(part.end[0]), ASK)
        part.end = (index, until)

    # ---- the rest ----

    def _subscription(self, entry: Opened) -> None:
        who, change = entry.shared("who"), entry.value("change")
        if change["change"] == "delete":  # of the others a `moved` entry tells more
            whose = (who["agency"], who["subject"], change["subscription"])
            self._chunk.changes.append(Change(whose, entry.index, entry.time_ms, "delete"))

    def _configuration(self, entry: Opened) -> None:
        start = entry.value("start")
        if (start["instance"], start["epoch"]) != (entry.instance, entry.epoch):
            what = "the configuration is of another instance or epoch than its entry"
            self._chunk.fault(entry.index, what, BROKEN)
        self._chunk.keys.append((entry.index, "start", (start["exchange"], start["ledger_key"])))

    def _key_rotated(self, entry: Opened) -> None:
        change = entry.value("change")
        if change["use"] == "ledger":
            self._chunk.keys.append((entry.index, "rotated", (change["from"]["key"], change["to"]["key"])))


def joins(end: Text, since: Text | list[int]) -> bool:
    """Whether a stretch that begins there continues one that ended there; a cursor does if it is the standing's."""
    return end == since if isinstance(since, bytes) else read_standing(end).cursor == since


@lru_cache(maxsize=256)
def numbers_to(count: int) -> bytes:
    """The canonical form of the list of the first so many numbers, from 0."""
    return b"[%b]" % b",".join(b"%d" % number for number in range(count))


def joint(before: int) -> str:
    """What is wrong where a stream's entries do not join."""
    return f"what a stream considered does not begin where its entry {before} ended: a stretch is missing or doubled"


def _name(entry: Opened) -> StreamName:
    who, stream = entry.shared("who"), entry.value("stream")
    return (
        who["agency"],
        who["subject"],
        stream["subscription"],
        stream["epoch"],
        stream["topic"],
        stream["purpose"],
    )
