"""Accounting over whole ledgers: joins what the stretches of all instances say of streams, places and subscriptions."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from broker.core.audit.chunk import Chunk, StreamPart, is_erased_between
from broker.core.audit.collect import joins, joint
from broker.core.audit.findings import Findings
from broker.core.audit.lives import Lives, StreamLife
from broker.core.audit.places import PAGE_OFFSETS, PageKey, least, merge, missing
from broker.core.audit.standings import greatest, read_standing, within

MAX_UNPUBLISHED = 20
"""Records without a publish entry that are told one by one."""


@dataclass(slots=True)
class _Known:
    instance: str
    part: StreamPart


class Accounting:
    """Takes the chunks of each instance in order, one instance after the other; then `finish`."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._streams: dict[str, _Known] = {}
        self._over: set[int] = set()
        self._lives = Lives()
        self._published: dict[PageKey, int] = {}
        self._released: dict[PageKey, int] = {}
        self._released_at: dict[PageKey, tuple[str, int]] = {}
        self._complete = True
        self._from_start = True
        self._erased: list[list[int]] = []

    def begin(self, *, from_start: bool, to_end: bool) -> None:
        """The next instance follows. from_start: whether its first entry is there; to_end: its last."""
        self._from_start = from_start
        self._complete = self._complete and from_start and to_end
        self._erased = []

    def add(self, chunk: Chunk) -> None:
        """The next stretch of the present instance."""
        if chunk.erased:
            self._complete = False
            self._erased.extend(chunk.erased)
        for stream, part in chunk.streams.items():
            self._join(chunk.instance, stream, part)
        for change in chunk.changes:
            self._lives.change(chunk.instance, change)
        merge(self._published, chunk.published)
        merge(self._released, chunk.released)
        for page, index in chunk.released_at.items():
            self._released_at.setdefault(page, (chunk.instance, index))

    def finish(self) -> None:
        """All instances are through: find what is left open."""
        for known in self._streams.values():
            self._end(known.instance, known.part)
        self._lives.join(self._findings, complete=self._complete)
        self._find_unpublished()

    def _join(self, instance: str, stream: str, part: StreamPart) -> None:
        known = self._streams.get(stream)
        if known is None and int(stream, 16) in self._over:
            if part.opened is not None or part.begin is not None:  # an acknowledgement may come after the end
                self._findings.fault(instance, part.first, "a stream goes on after its end")
        elif known is None:
            self._streams[stream] = _Known(instance, part)
            self._check_known(instance, part)
        elif known.instance != instance:
            what = f"a stream appears that instance {known.instance} has opened"
            self._findings.fault(instance, part.first, what)
        else:
            self._continue(instance, known.part, part)
        if part.closed is not None and not part.name[2] and stream in self._streams:
            del self._streams[stream]
            self._over.add(int(stream, 16))

    def _check_known(self, instance: str, part: StreamPart) -> None:
        """A stream's first entry opens it, as far as its beginning can be known at all."""
        unknown = not self._from_start or is_erased_between(self._erased, 0, part.first)
        if part.opened is None and not unknown:
            self._findings.fault(instance, part.first, "a stream was used that was never opened")

    def _continue(self, instance: str, known: StreamPart, part: StreamPart) -> None:
        fault = partial(self._findings.fault, instance)
        if known.name[:-1] != part.name[:-1] or (
            known.name[-1] and part.name[-1] and known.name[-1] != part.name[-1]
        ):
            fault(part.first, "a stream is another principal's, topic's or purpose's than before")
        if part.opened is not None:
            fault(part.opened, "a stream is opened that was open before")
        if part.begin is not None:
            index, since = part.begin
            if known.closed is not None:
                fault(index, "a stream goes on after its end")
            if known.end is None or joins(known.end[1], since):
                pass
            elif not is_erased_between(self._erased, known.end[0], index):
                fault(index, joint(known.end[0]))
        if part.moved is not None:
            if known.moved is not None or known.end is not None:
                fault(part.moved[0], "a stream is moved in its course")
            known.moved, known.time_ms = part.moved, part.time_ms
        known.name = known.name if known.name[-1] else part.name
        known.end = part.end or known.end
        known.closed = known.closed if part.closed is None else part.closed
        if part.acknowledged is not None:
            if known.acknowledged is None or len(known.acknowledged) != len(part.acknowledged):
                known.acknowledged = part.acknowledged
            known.acknowledged = greatest(known.acknowledged, part.acknowledged)
            known.acknowledged_at = part.acknowledged_at

    def _end(self, instance: str, part: StreamPart) -> None:
        """What was acknowledged was handed out; where the subscription can go on."""
        agency, subject, subscription, epoch, *_ = part.name
        end = read_standing(part.end[1]).cursor if part.end is not None and part.closed is not None else None
        acknowledged = part.acknowledged
        if (
            subscription
            and end is not None
            and acknowledged is not None
            and not within(acknowledged, end, None)
        ):
            what = "more was acknowledged than the stream was handed"
            self._findings.fault(instance, part.acknowledged_at, what)
        if not subscription or part.moved is None:
            return
        index, came_from, to, _ = part.moved
        low = to if acknowledged is None or len(to) != len(acknowledged) else greatest(to, acknowledged)
        life = StreamLife(instance, index, part.time_ms, epoch, came_from, to, low, end)
        self._lives.stream((agency, subject, subscription), life)

    def _find_unpublished(self) -> None:
        """A record may be stored and its broker stop before it is accounted for, so this alone is no fault."""
        first = least(self._published)
        count = 0
        for topic, partition, offset in missing(self._released, self._published):
            if offset < first.get((topic, partition), offset + 1):
                continue  # it was there before this ledger, or before the part of it that is here
            count += 1
            if count <= MAX_UNPUBLISHED:
                instance, index = self._released_at[topic, partition, offset // PAGE_OFFSETS]
                what = (
                    f"here or later {topic}/{partition}/{offset} was handed out, which no publish entry names"
                )
                self._findings.remark(instance, index, what, "ask its owner whether it published that")
        if count > MAX_UNPUBLISHED:
            what = f"{count} records were handed out that no publish entry names"
            self._findings.remark("", None, what, "ask their owners whether they published them")
