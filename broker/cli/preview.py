"""`entente publish --dry-run`: what each party of the owner's agreements would receive."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from broker.cli.difference import compare
from connectors.cli.output import OutputFormat, show_all

if TYPE_CHECKING:
    from broker.cli.assemble import Template
    from broker.cli.tally import Tally
    from connectors.client import Client
    from protos.entente.v1.exchange_pb2 import PartyPreview, RecordPreview
    from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent

_PREVIEW_RECORDS = 100
"""The exchange's limit for one call."""

_COLUMNS = ("records", "agency", "purpose", "roles", "effect", "removed", "changed", "obligations")


async def preview(
    client: Client,
    topic: str,
    template: Template,
    made: Callable[[Template], Iterator[CloudEvent]],
    tally: Tally,
    form: OutputFormat,
) -> None:
    """Show the outlook: a table of what is done alike, or one object a record with what each party would see."""
    from broker.cli.publish import with_source
    from connectors.publishing import cut

    complete = await with_source(client, template)
    outlooks: list[dict[str, object]] = []
    for batch in cut(made(complete), max_records=_PREVIEW_RECORDS):
        previews = await client.preview(topic, batch)
        for record, each in zip(batch, previews, strict=True):
            outlooks.append(outlook(record, each))
            if each.HasField("refusal"):
                tally.refuse(record.id, each.refusal.reason, each.refusal.message, each.refusal.reference)
            else:
                tally.places.popleft()
    if form is OutputFormat.TABLE:
        show_all(form, _COLUMNS, alike(outlooks))
    else:
        show_all(form, (), outlooks)


def outlook(record: CloudEvent, shown: RecordPreview) -> dict[str, object]:
    """One record's outlook as an object."""
    refusal = {"reason": shown.refusal.reason, "message": shown.refusal.message}
    return {
        "id": record.id,
        "refusal": refusal if shown.HasField("refusal") else None,
        "unreviewed_paths": list(shown.unreviewed_paths),
        "parties": [_party(record, party) for party in shown.parties],
    }


def _party(record: CloudEvent, party: PartyPreview) -> dict[str, object]:
    from connectors.cloudevents import data_of, to_json_event
    from protos.entente.v1 import exchange_pb2

    removed: list[str] = []
    changed: list[str] = []
    if party.HasField("record"):
        removed, changed = compare(data_of(record), data_of(party.record))
    return {
        "agency": party.agency,
        "purpose": party.purpose,
        "roles": list(party.roles),
        "effect": exchange_pb2.Effect.Name(party.effect).removeprefix("EFFECT_").lower(),
        "removed": removed,
        "changed": changed,
        "masked": list(party.disclosure.masked),
        "obligations": list(party.disclosure.obligations),
        "record": to_json_event(party.record) if party.HasField("record") else None,
    }


def alike(outlooks: Sequence[dict[str, object]]) -> list[dict[str, object]]:
    """Rows of the table: parties whose records are treated alike are counted together, refusals by reason."""
    counts: Counter[tuple[str, ...]] = Counter()
    for each in outlooks:
        refusal, parties = each["refusal"], each["parties"]
        if isinstance(refusal, dict):
            counts[("(nobody)", "", "", f"refused: {refusal['reason']}", "", "", "")] += 1
        for party in parties if isinstance(parties, list) else []:
            cells = (", ".join(party[name]) for name in ("removed", "changed", "obligations"))
            roles = ", ".join(party["roles"])
            counts[(party["agency"], party["purpose"], roles, party["effect"], *cells)] += 1
    rows = [(str(count), *row) for row, count in sorted(counts.items())]
    return [dict(zip(_COLUMNS, row, strict=True)) for row in rows]
