"""An exchange whose ledger takes every entry and keeps none: only what `benchmarks.ledger` compares with."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from itertools import count
from pathlib import Path

from broker.app.config import load_config
from broker.app.server import serve
from broker.core.ledger.writer import LedgerWriter
from broker.model.ledger import LedgerEntry, Place

_numbers = count()


async def _append(_: LedgerWriter, entries: Sequence[LedgerEntry], **__: object) -> Sequence[Place]:
    return [Place("none", 0, next(_numbers), bytes(32)) for _ in entries]


if __name__ == "__main__":
    LedgerWriter.append = _append  # type: ignore[method-assign,assignment]
    asyncio.run(serve(load_config(Path(sys.argv[1]))))
