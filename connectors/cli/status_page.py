"""The page of `entente connect status`: one row a connector and, where there are several or one has failed, a task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from rich.table import Table
from rich.text import Text

from connectors.cli.text import one_line
from connectors.runtime.model import State
from connectors.runtime.progress import Progress
from connectors.runtime.status import ConnectorStatus, TaskStatus

_STYLES: Mapping[State, str] = {
    State.RUNNING: "green",
    State.PAUSED: "cyan",
    State.STOPPED: "dim",
    State.UNASSIGNED: "dim",
    State.RESTARTING: "yellow",
    State.DEGRADED: "bold yellow",
    State.FAILED: "bold red",
}
_RATE = "per s"
_COLUMNS = ("connector", "state", "records", _RATE, "lag", "errors", "last success", "cause")
_RIGHT = {"records", _RATE, "lag", "errors"}
_WRAPPED = {"connector", "cause"}


class Rates:
    """Records a second, from one look to the next."""

    def __init__(self) -> None:
        self._before: tuple[float, Mapping[str, int]] | None = None

    def of(self, found: Sequence[ConnectorStatus], now_s: float) -> Mapping[str, float]:
        """By connector; without those that were not there before or began anew. now_s: of a monotonic clock."""
        moved = {each.name: each.total.records for each in found}
        before, self._before = self._before, (now_s, moved)
        if before is None or now_s <= before[0]:
            return {}
        passed_s, earlier = now_s - before[0], before[1]
        return {
            name: (count - earlier[name]) / passed_s
            for name, count in moved.items()
            if count >= earlier.get(name, count + 1)
        }


def page(found: Sequence[ConnectorStatus], rates: Mapping[str, float] | None, now_s: float) -> Table:
    """The table; rates: None where there is one look only. now_s: seconds of the Unix epoch."""
    columns = [name for name in _COLUMNS if name != _RATE or rates is not None]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        justify: Literal["left", "right"] = "right" if name in _RIGHT else "left"
        table.add_column(name, justify=justify, overflow="fold", no_wrap=name not in _WRAPPED)
    for connector in found:
        for row in _rows(connector, (rates or {}).get(connector.name), now_s):
            table.add_row(*(row.get(name, Text()) for name in columns))
    if not found:
        table.add_row(Text("no connectors", style="dim"))
    return table


def _rows(connector: ConnectorStatus, rate: float | None, now_s: float) -> Iterator[Mapping[str, Text]]:
    yield {
        "connector": Text(one_line(connector.name)),
        "state": Text(str(connector.state), style=_STYLES[connector.state]),
        _RATE: Text("" if rate is None else f"{rate:,.0f}"),
        "cause": Text(one_line(connector.cause or ""), style="red"),
        **_counts(connector.total, now_s),
    }
    if len(connector.tasks) > 1 or any(task.cause for task in connector.tasks):
        for task in connector.tasks:
            yield {
                "connector": Text(f"  task {task.number}"),
                "state": Text(str(task.state), style=_STYLES[task.state]),
                "cause": _cause(task, now_s),
                **_counts(task.progress, now_s),
            }


def _counts(done: Progress, now_s: float) -> Mapping[str, Text]:
    errors = done.failed + done.skipped + done.dead_lettered
    ago = "never" if done.last_success_s is None else f"{span(now_s - done.last_success_s)} ago"
    return {
        "records": Text(f"{done.records:,}"),
        "lag": Text(_lag(done)),
        "errors": Text(f"{errors:,}", style="red" if errors else ""),
        "last success": Text(ago),
    }


def _lag(done: Progress) -> str:
    parts = []
    if done.lag_records is not None:
        parts.append(f"{done.lag_records:,} records")
    if done.lag_s is not None:
        parts.append(span(done.lag_s))
    return ", ".join(parts) or "unknown"


def _cause(task: TaskStatus, now_s: float) -> Text:
    if task.cause is None:
        return Text("something waits, and nothing moves" if task.stalled else "", style="yellow")
    again = "" if task.retry_at_s is None else f" (again in {span(task.retry_at_s - now_s)})"
    return Text(one_line(task.cause) + again, style="red")


def span(seconds: float) -> str:
    """A length of time as people read it."""
    whole = max(0, round(seconds))
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if whole >= length:
            return f"{whole // length} {unit}"
    return f"{whole} s"
