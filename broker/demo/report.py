"""Shows a story: tables and the crash report side by side, or one JSON object."""

from __future__ import annotations

from rich.columns import Columns
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from broker.cli.text import to_json
from broker.demo.samples import TOPICS
from broker.demo.story import PRINCIPALS, Received, Story


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
    """Print the story for people."""
    console = Console()
    console.print(_matrix(story))
    panels = [
        Panel(Text(to_json(story.crash_views[name], indent=1)), title=f"the crash report as {name} sees it")
        for name in ("ems", "transport")
    ]
    console.print(Columns(panels, equal=True, expand=True))
    entries = ", ".join(f"{count} {kind}" for kind, count in story.ledger_entries.items())
    console.print(Text(f"The ledger holds {sum(story.ledger_entries.values())} entries: {entries}."))
    verdict = "differs from" if story.faults else "is"
    console.print(Text(f"What each received {verdict} what the agreements promise ({story.elapsed_s} s)."))


def _matrix(story: Story) -> Table:
    table = Table(title=f"Who received what ({story.backend})", show_lines=True)
    table.add_column("principal", no_wrap=True)
    for topic in TOPICS:
        table.add_column(f"{topic}\n{story.published.get(topic, 0)} published")
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
