"""The page of `entente connect status`: one row a connector and, where there are several or one has failed, a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
_COLUMNS = ("connector", "state", "records", "per s", "lag", "errors", "last success", "cause")
_RIGHT = {"records", "per s", "lag", "errors"}


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


def page(found: Sequence[ConnectorStatus], rates: Mapping[str, float], now_s: float) -> Table:
    """The table; now_s: seconds of the Unix epoch."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in _COLUMNS:
        table.add_column(
            name,
            justify="right" if name in _RIGHT else "left",
            overflow="fold",
            no_wrap=name not in ("cause", "connector"),
        )
    for each in found:
        numbers = _numbers(each.total, rates.get(each.name), now_s)
        table.add_row(
            Text(one_line(each.name)), _state(each.state), *numbers, _cause(each.cause, None, now_s)
        )
        if len(each.tasks) > 1 or any(task.cause for task in each.tasks):
            for task in each.tasks:
                _add_task(table, task, now_s)
    if not found:
        table.add_row(Text("no connectors", style="dim"))
    return table


def _add_task(table: Table, task: TaskStatus, now_s: float) -> None:
    cause = _cause(task.cause, task.retry_at_s, now_s)
    if task.stalled and task.cause is None:
        cause = Text("something waits, and nothing moves", style="yellow")
    table.add_row(
        Text(f"  task {task.number}"), _state(task.state), *_numbers(task.progress, None, now_s), cause
    )


def _state(state: State) -> Text:
    return Text(str(state), style=_STYLES[state])


def _numbers(done: Progress, rate: float | None, now_s: float) -> tuple[Text, ...]:
    errors = done.failed + done.skipped + done.dead_lettered
    ago = "never" if done.last_success_s is None else f"{span(now_s - done.last_success_s)} ago"
    return (
        Text(f"{done.records:,}"),
        Text("" if rate is None else f"{rate:,.0f}"),
        Text(_lag(done)),
        Text(f"{errors:,}", style="red" if errors else ""),
        Text(ago),
    )


def _lag(done: Progress) -> str:
    parts = []
    if done.lag_records is not None:
        parts.append(f"{done.lag_records:,} records")
    if done.lag_s is not None:
        parts.append(span(done.lag_s))
    return ", ".join(parts) or "unknown"


def _cause(cause: str | None, retry_at_s: float | None, now_s: float) -> Text:
    if cause is None:
        return Text("")
    again = "" if retry_at_s is None else f" (again in {span(max(0.0, retry_at_s - now_s))})"
    return Text(one_line(cause) + again, style="red")


def span(seconds: float) -> str:
    """A length of time as people read it."""
    whole = max(0, round(seconds))
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if whole >= length:
            return f"{whole // length} {unit}"
    return f"{whole} s"
