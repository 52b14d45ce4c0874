"""A simulation as a page to hand on: for those who approve a change, and for those whom it concerns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.cli.audit.markup import Markup, code, facts, joined, page, table, tag, value
from broker.cli.audit.times import readable
from broker.cli.rulebook.simulated import Group, from_to, groups_of, lines_of

if TYPE_CHECKING:
    from broker.core.simulate.model import Reach, Simulation

_HEADINGS = {
    "gains": "Who would receive more",
    "loses": "Who would receive less",
    "differs": "Who would see something differently",
}
_MOST_GROUPS = 1_000


def simulation_page(simulation: Simulation, name: str, time_ms: int) -> str:
    """The whole page; holds nothing of any record's content. name: of the change, as it was named."""
    groups = groups_of(simulation.rows)
    return page(
        f"What {name} would change",
        tag("h1", "What this change of the rulebook would do"),
        tag("p", f"Simulated {readable(time_ms)}. Nobody received anything from it.", class_="note"),
        _in_short(simulation),
        tag("h2", "Agencies concerned"),
        _reaches(simulation.reaches),
        *(part for shift, heading in _HEADINGS.items() for part in _section(shift, heading, groups)),
        tag("h2", "What this page rests on"),
        facts([("The change", value(name)), ("Compared", _revisions(simulation))]),
        tag("ul", *(tag("li", value(line)) for line in lines_of(simulation))),
        _legend(),
    )


def _in_short(simulation: Simulation) -> Markup:
    gaining, losing, other = (
        sorted({row.combination.subject.agency for row in simulation.rows if row.shift == shift})
        for shift in _HEADINGS
    )
    said = [
        joined(tag("strong", verb), " ", *_names(agencies), ". ")
        for verb, agencies in (("More for", gaining), ("Less for", losing), ("Different for", other))
        if agencies
    ]
    if not said:
        said = [joined("By what was looked at, ", tag("strong", "nothing changes"), " for anybody.")]
    return tag("div", tag("p", *said, class_="lead"), class_="box bad" if gaining else "box")


def _names(agencies: list[str]) -> list[Markup]:
    return [joined(", " if number else "", value(name)) for number, name in enumerate(agencies)]


def _reaches(reaches: tuple[Reach, ...]) -> Markup:
    rows: list[tuple[str, ...]] = [
        (
            value(each.owner),
            value(each.consumer),
            value(each.topic),
            from_to(each.recorded_before, each.recorded_after),
            from_to(each.stored_before, each.stored_after),
        )
        for each in reaches
    ]
    heads = (
        "Records of",
        "for people of",
        "on topic",
        "Recorded decisions that hand out",
        "Stored records in reach",
    )
    return table(heads, rows) if rows else tag("p", "None.")


def _section(shift: str, heading: str, groups: list[Group]) -> list[Markup]:
    mine = [group for group in groups if group.rows[0].shift == shift]
    if not mine:
        return []
    rows: list[tuple[str, ...]] = [
        (
            value(group.who),
            value(group.what),
            value(group.labels),
            value(group.change),
            group.recorded,
            group.stored,
            _example(group),
        )
        for group in mine[:_MOST_GROUPS]
    ]
    heads = ("Who", "Records", "Labels", "Change", "Recorded", "Stored", "For example")
    more = len(mine) - len(rows)
    note = [tag("p", f"{more} more are left out here; the JSON output has them all.")] if more else []
    return [tag("h2", heading), table(heads, rows), *note]


def _example(group: Group) -> Markup:
    example = group.example
    if example is None:
        return joined("-")
    return joined(code(example.id), " of ", value(example.source), f", {readable(example.time_ms)}")


def _revisions(simulation: Simulation) -> Markup:
    return joined(code(simulation.before or "-"), " with ", code(simulation.after or "-"))


def _legend() -> Markup:
    text = (
        "Recorded: decisions that the ledger holds, made again under both rulebooks. Stored: records that are still kept,"
        " and how many of them could be received, before and after. A combination in neither is one that could occur."
        " Whether a person subscribes at all is not foreseen; suspensions and withdrawals do not count."
    )
    return tag("p", text, class_="note")
