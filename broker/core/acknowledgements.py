"""Acknowledged positions in the ledger, so that what was handed out and what was dealt with are told apart.

Clients acknowledge several times a second each, so the newest position of every stream is written about once a second, in
one entry for all of them. A stream's last one goes with the entry of its end.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass

from broker.core.deliver.session import Session
from broker.core.evidence import Evidence, list_of
from broker.errors import EntenteError
from broker.model.ledger import JsonValue, LedgerEntry
from broker.model.record import Positions

log = logging.getLogger(__name__)

INTERVAL_S = 1.0
SETTLE_S = 5.0
ROWS = 1_000
"""Streams in one entry."""


@dataclass(frozen=True, slots=True)
class _Row:
    session: Session
    positions: Positions

    def as_json(self) -> JsonValue:
        session = self.session
        return {
            "agency": session.principal.agency,
            "subject": session.principal.subject,
            "topic": session.topic,
            "subscription": session.binding.subscription,
            "epoch": session.epoch,
            "stream": session.stream,
            "to": list(self.positions),
        }


class Acknowledgements:
    """What waits to be written: a row for each stream at most, and the ends of streams that the ledger would not take.

    Both are bounded by the streams that were open, since none is opened while the ledger takes nothing.
    """

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._rows: dict[str, _Row] = {}
        self._ends: list[LedgerEntry] = []
        self._stopping = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None

    def note(self, session: Session, positions: Positions) -> None:
        """The stream's client has dealt with everything before these positions; older ones change nothing."""
        known = session.acknowledged
        session.acknowledged = tuple(map(max, known, positions)) if known else positions
        if session.acknowledged != known:
            self._rows[session.stream] = _Row(session, session.acknowledged)
            self._begin()

    async def close(self, session: Session, end: LedgerEntry) -> None:
        """Write the stream's last acknowledgement and its end; if that fails, later."""
        row = self._rows.pop(session.stream, None)
        entries = [end] if row is None else [self._entry([row]), end]
        try:
            await self._evidence.write_all(entries, patient=True)
        except EntenteError as error:
            # The stream has ended for a reason of its own, which this must not hide.
            log.warning("a stream's end is not yet in the ledger: reason=%s", error)
            self._ends += entries
            self._begin()

    async def flush(self) -> None:
        """Write what waits. Raises EntenteError LEDGER_UNAVAILABLE; then it still waits."""
        while self._ends:
            ends = self._ends[:ROWS]
            await self._evidence.write_all(ends, patient=True)
            del self._ends[: len(ends)]
        waiting = list(self._rows.values())
        for begin in range(0, len(waiting), ROWS):
            rows = waiting[begin : begin + ROWS]
            await self._evidence.write_all([self._entry(rows)])
            for row in rows:
                if self._rows.get(row.session.stream) is row:
                    del self._rows[row.session.stream]

    async def settle(self) -> None:
        """Write what waits for the last time, and stop; a ledger that does not answer is not waited for without end."""
        self._stopping.set()
        if self._writer is not None:
            await asyncio.wait([self._writer], timeout=SETTLE_S)

    def _begin(self) -> None:
        if self._writer is None or self._writer.done():
            self._writer = asyncio.get_running_loop().create_task(self._write_each_second())

    async def _write_each_second(self) -> None:
        while self._rows or self._ends:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), INTERVAL_S)
            try:
                await self.flush()
            except EntenteError as error:
                log.warning("acknowledged positions are not yet in the ledger: reason=%s", error)
                if self._stopping.is_set():
                    return

    def _entry(self, rows: list[_Row]) -> LedgerEntry:
        return self._evidence.entry("acknowledged", {"acknowledged": list_of(row.as_json() for row in rows)})
