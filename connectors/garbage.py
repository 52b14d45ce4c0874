"""What the garbage collector of a process that runs for long looks at, and how often."""

from __future__ import annotations

import gc

_THRESHOLDS = (50_000, 20, 100)
"""New containers until the youngest are looked through, and how many such rounds until the next generation is.

Records are freed by their last reference; only what refers to itself waits for the collector, and at most so many
containers of it: some ten megabytes. With Python's own thresholds (700, 10, 10) a tenth of the processor time under
traffic went into looking for cycles, in the broker and in connectors alike.
"""


def spare_collections() -> None:
    """Once the process has started: what it made until now stays, and is not looked through by each full collection.

    Such a collection stops every thread, with the default rulebook for 30 to 90 ms each quarter of a minute under traffic.
    What is over later is freed by its last reference; only garbage in cycles among the objects made so far would stay.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
