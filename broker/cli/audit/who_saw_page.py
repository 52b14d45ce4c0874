"""Who saw a record, as a page for people who are no engineers, with what lets an engineer check it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from broker.cli.audit.hashes import checkpoint_facts, how_to_check
from broker.cli.audit.markup import Markup, code, facts, joined, page, table, tag, value
from broker.cli.audit.times import readable
from broker.cli.audit.words import MEANINGS, labels_in_words, treatments_in_words

if TYPE_CHECKING:
    from broker.cli.audit.who_saw import Evidence
    from broker.model.audit import Publication, Sighting, Sightings


def who_saw_page(source: str, record_id: str, evidence: Evidence) -> str:
    """The whole page; holds nothing of the record's content, which the ledger never has."""
    found = evidence.found
    return page(
        f"Who saw record {record_id}",
        tag("h1", "Who saw this record"),
        tag(
            "p",
            "From the ledger of the exchange ",
            value(evidence.origin or "(unnamed)"),
            ". All times are UTC.",
            class_="note",
        ),
        _in_short(found),
        tag("h2", "The record"),
        facts(_record(source, record_id, found.publications)),
        tag("h2", "Who was handed it"),
        _receivers(found.sightings),
        *_legend(found.sightings),
        tag("h2", "What this page rests on"),
        *_rests_on(found),
        table(("Entry", "What it accounts for", "SHA-256 hash of its leaf"), _entries(evidence)),
        *checkpoint_facts(evidence.checkpoints),
        *how_to_check(next(iter(evidence.hashes), None)),
    )


def _in_short(found: Sightings) -> Markup:
    people = {(each.agency, each.subject) for each in found.sightings}
    agencies = sorted({each.agency for each in found.sightings})
    arrived = {(each.agency, each.subject) for each in found.sightings if each.acknowledged}
    whole = {(each.agency, each.subject) for each in found.sightings if each.effect == "release"}
    if not people:
        said = joined("By this ledger the record was handed to ", tag("strong", "nobody"), ".")
    else:
        names = joined(*(joined(", " if n else "", value(name)) for n, name in enumerate(agencies)))
        said = joined(
            "By this ledger the record was handed to ",
            "" if all(subject for _, subject in people) else "at least ",
            tag("strong", _count(len(people), "person or system", "people or systems")),
            f" of {_count(len(agencies), 'agency', 'agencies')} (",
            names,
            f"). {_count(len(arrived), 'has', 'have')} confirmed that it arrived.",
            ""
            if len(whole) == len(people)
            else f" {len(people - whole)} of them got no more than a notice that it exists.",
        )
    box = [tag("p", said, class_="lead")]
    if not found.complete:
        gap = (
            "This answer may be incomplete: entries that could name the record were erased, or are not in the ledger"
            " that was read."
        )
        box.append(tag("p", tag("strong", gap)))
    return tag("div", *box, class_="box" if found.complete else "box bad")


def _record(source: str, record_id: str, publications: Sequence[Publication]) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = [("Source", value(source)), ("Id", value(record_id))]
    if not publications:
        return [*rows, ("Published", "the ledger that was read does not say; perhaps before it begins")]
    first = publications[0]
    rows += [
        ("Type", value(first.type)),
        ("Belongs to", value(first.owner)),
        ("Topic", value(first.topic)),
        ("Labels", value(labels_in_words(first.labels))),
        ("Published", readable(first.time_ms)),
    ]
    again = ", ".join(readable(each.time_ms) for each in publications[1:])
    return [*rows, ("Published again, unchanged", again)] if again else rows


def _receivers(sightings: Sequence[Sighting]) -> Markup:
    if not sightings:
        return tag("p", "Nobody.")
    heads = ("When", "Who", "For what purpose", "What they got", "Did it arrive?", "Entry")
    return table(heads, [_receiver(each) for each in sightings])


def _receiver(each: Sighting) -> tuple[str, ...]:
    # An agency's administrator is not told the names of another agency's people.
    who = joined(value(each.subject) if each.subject else "somebody", tag("br"), "of ", value(each.agency))
    entry = tag("span", code(f"{each.instance}/{each.index}"), class_="place")
    return (
        readable(each.time_ms),
        who,
        value(each.purpose),
        _got(each),
        _arrived(each),
        entry,
    )


def _got(each: Sighting) -> Markup:
    if each.effect != "release":
        return joined("a notice that the record exists, and nothing of it")
    words = treatments_in_words(each.treatments, each.decision)
    lines = [joined(tag("strong", what), ": ", value(markings)) for what, markings in words]
    return (
        joined(*(joined(tag("br") if n else "", line) for n, line in enumerate(lines)))
        if lines
        else joined("the record")
    )


def _arrived(each: Sighting) -> Markup:
    if each.acknowledged:
        when = "" if each.acknowledged_ms is None else f", {readable(each.acknowledged_ms)}"
        return joined(f"yes, confirmed{when}")
    if each.ended is None:
        return joined(
            "not confirmed; the connection was open, or the exchange stopped, when this ledger ends"
        )
    return joined("not confirmed; the connection ended: ", value(each.ended))


def _legend(sightings: Sequence[Sighting]) -> list[Markup]:
    if not any(each.effect == "release" for each in sightings):
        return []
    meanings = [joined(tag("strong", what), ": ", meaning, ".") for what, meaning in MEANINGS]
    listed = tag("ul", *(tag("li", meaning) for meaning in meanings))
    told = (
        "Fields are named by what they hold (their marking), as the record's type defines them; those that it does not"
        " mention are called unreviewed. What is not confirmed may have been lost on the way: the exchange accounts for"
        " what it hands out before it sends anything."
    )
    return [tag("p", told), listed]


def _rests_on(found: Sightings) -> list[Markup]:
    told = (
        "The exchange writes an entry into its ledger before it hands anything out. Hashes bind all entries together and"
        " are signed again and again: an entry that is changed, removed or put in later no longer fits them. This page"
        " repeats what the entries below say. That they are genuine is shown by the checks at its end, which need"
        " nothing of the exchange but its public key."
    )
    scope = (
        "Every entry that could name the record was there to be read."
        if found.complete
        else "Not every entry that could name the record was there to be read."
    )
    return [tag("p", told), tag("p", scope)]


def _entries(evidence: Evidence) -> list[tuple[str, ...]]:
    told: dict[tuple[str, int], str] = {}
    for publication in evidence.found.publications:
        told[publication.instance, publication.index] = "the record was published"
    for sighting in evidence.found.sightings:
        told.setdefault((sighting.instance, sighting.index), "the record was handed out")
    hashes = evidence.hashes
    return [
        (code(f"{place[0]}/{place[1]}"), what, code(hashes[place].hex()) if place in hashes else "not there")
        for place, what in sorted(told.items())
    ]


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
