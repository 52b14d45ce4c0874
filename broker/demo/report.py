"""Shows a story: tables and the crash report side by side, or one JSON object."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table
from rich.text import Text

from broker.cli.rulebook.simulated import as_object as simulation_object
from broker.cli.rulebook.simulated import groups_of
from broker.core.simulate.model import Simulation
from broker.demo.samples import TOPICS
from broker.demo.story import PRINCIPALS, Received, Revocation, Story
from connectors.cli.text import printable, to_json

_WIDTH_ELSEWHERE = 120
"""Columns of a log or a file."""


def as_object(story: Story) -> dict[str, object]:
    """The story as one JSON object."""
    return {
        "backend": story.backend,
        "published": dict(story.published),
        "received": {
            principal: {topic: _received(story.received[principal, topic]) for topic in TOPICS}
            for principal in PRINCIPALS
        },
        "crash_report": dict(story.crash_views),
        "revocation": {
            "simulation": simulation_object(story.revocation.simulation),
            "took_ms": story.revocation.took_ms,
            "stream_ended": story.revocation.ended,
            "refused_since": story.revocation.refused,
        },
        "ledger": {"entries": sum(story.ledger_entries.values()), "by_kind": dict(story.ledger_entries)},
        "elapsed_s": story.elapsed_s,
        "faults": list(story.faults),
    }


def _received(met: Received) -> dict[str, object]:
    return {
        "refused": met.refused,
        "whole": met.whole,
        "redacted": met.redacted,
        "notices": met.notices,
        "removed": sorted(met.removed),
        "changed": sorted(met.changed),
        "masked": list(met.masked),
        "obligations": list(met.obligations),
        "classifications": dict(met.classifications),
    }


def show(story: Story) -> None:
    """Print the story for people: as wide as the terminal, or wide enough for its names where there is none."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH_ELSEWHERE)
    console.print(_matrix(story))
    console.print(side_by_side(story.crash_views["ems"], story.crash_views["transport"]))
    console.print(simulation_table(story.revocation.simulation))
    console.print(Text(_revoked(story.revocation)))
    entries = ", ".join(f"{count} {kind}" for kind, count in story.ledger_entries.items())
    console.print(Text(f"The ledger holds {sum(story.ledger_entries.values())} entries: {entries}."))
    verdict = "differs from" if story.faults else "is"
    console.print(Text(f"What each received {verdict} what the agreements promise ({story.elapsed_s} s)."))


def _matrix(story: Story) -> Table:
    table = Table(title=f"Who received what ({story.backend})", show_lines=True)
    table.add_column("principal", no_wrap=True)
    for topic in TOPICS:
        table.add_column(f"{topic}\n{story.published.get(topic, 0)} published", overflow="fold")
    for principal, purpose in PRINCIPALS.items():
        cells = (_cell(story.received[principal, topic]) for topic in TOPICS)
        table.add_row(Text(f"{principal}\n{purpose}"), *cells)
    return table


def _cell(met: Received) -> Text:
    if met.refused:
        return Text(f"refused: {met.refused}", style="red")
    lines = []
    if met.whole:
        lines.append(f"{met.whole} whole")
    if met.redacted:
        lines.append(
            f"{met.redacted} redacted: {len(met.removed)} fields removed, {len(met.changed)} replaced"
        )
    if met.notices:
        lines.append(f"{met.notices} notice: that it exists and whom to ask")
    if met.masked:
        lines.append(f"replaced: {', '.join(met.masked)}")
    if met.obligations:
        lines.append(f"must: {', '.join(met.obligations)}")
    return Text("\n".join(lines) or "nothing")


def side_by_side(ems: object, transport: object) -> Table:
    """The crash report as two agencies see it, member by member; a dash where one of them has nothing."""
    table = Table(title="The crash report as two agencies see it", box=None, pad_edge=False)
    table.add_column("member", overflow="fold")
    table.add_column("ems", overflow="fold", style="green")
    table.add_column("transport", overflow="fold", style="cyan")
    for depth, name, left, right in _rows(ems, transport, 0, "$"):
        table.add_row(Text("  " * depth + printable(name)), Text(left), Text(right))
    return table


def simulation_table(simulation: Simulation) -> Table:
    """What a change does for whom, as it is foreseen."""
    table = Table(title="What revoking an agreement would do, before it is done", show_lines=True)
    for name in ("who", "records", "labels", "change", "recorded", "stored"):
        table.add_column(name, overflow="fold")
    for group in groups_of(simulation.rows):
        cells = (group.who, group.what, group.labels, group.change, group.recorded, group.stored)
        table.add_row(*(Text(printable(cell)) for cell in cells))
    return table


def _revoked(revocation: Revocation) -> str:
    return (
        f"Another administrator of the owner approved it; {revocation.took_ms} ms after the call nothing could be"
        " released under it any more.\n"
        f"The open stream ended with {revocation.ended}; who asks again is told {revocation.refused}."
    )


class _Absent:
    """What a removed member is: nothing at all."""


_ABSENT = _Absent()


def _rows(left: object, right: object, depth: int, name: str) -> Iterator[tuple[int, str, str, str]]:
    """One row a member, in the order of the fuller document; the namespaces of JSON-LD are only counted."""
    if name == "@context" and left == right and isinstance(left, dict):
        yield depth, name, f"{len(left)} namespaces", "the same"
        return
    yield depth, name, _shown(left), _shown(right)
    ours, theirs = _members(left), _members(right)
    for member in ours | theirs:
        yield from _rows(ours.get(member, _ABSENT), theirs.get(member, _ABSENT), depth + 1, member)


def _members(value: object) -> dict[str, object]:
    if isinstance(value, list):
        return {f"[{index}]": element for index, element in enumerate(value)}
    return {str(name): member for name, member in value.items()} if isinstance(value, dict) else {}


def _shown(value: object) -> str:
    if isinstance(value, _Absent):
        return "-"
    return (
        ""
        if isinstance(value, dict | list)
        else printable(value if isinstance(value, str) else to_json(value))
    )
