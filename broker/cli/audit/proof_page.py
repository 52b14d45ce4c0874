"""What a proof shows, as a page for people who are no engineers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from broker.cli.audit.markup import Markup, code, facts, joined, page, tag, value
from broker.cli.audit.stories import story
from broker.cli.audit.times import readable

if TYPE_CHECKING:
    from broker.core.audit.proofs import CheckedProof
    from broker.model.ledger import JsonValue

_KINDS = {
    "acknowledged": "Receivers confirmed that records had arrived",
    "call_refused": "A call to the exchange was refused",
    "clock_step": "The exchange's clock was moved",
    "configuration": "The exchange started",
    "delivery": "Records were handed out",
    "engine_fault": "Records were withheld because no decision could be had",
    "key_rotated": "A key of the exchange was replaced",
    "ledger_read": "Somebody read the ledger through the exchange",
    "moved": "The position of a subscription changed",
    "preview": "Somebody asked what would become of records",
    "publish": "Records were published",
    "refused_aggregate": "Calls to the exchange were refused before their caller was known",
    "stream_closed": "A subscriber's connection ended",
    "stream_opened": "A subscriber connected",
    "subscription": "A subscription was made, moved or deleted",
}

_PARTS = {
    "acknowledged": "Confirmed",
    "call": "The call",
    "change": "The change",
    "class": "The receivers' agency, roles and purpose, and the topic",
    "considered": "What was considered, and what was withheld",
    "count": "How many records were handed out",
    "decisions": "The decisions",
    "digest": "What salts the digests",
    "end": "Why it ended",
    "faulted": "The records without a decision",
    "move": "From where to where",
    "places": "The records' places",
    "query": "What was asked",
    "receivers": "The receivers",
    "records": "The records",
    "refused": "What was refused",
    "rules": "The rules in force",
    "start": "How it was set up",
    "step": "The step",
    "stored": "Where the records are kept",
    "stream": "The connection",
    "who": "Who",
}


def proof_page(checked: CheckedProof) -> str:
    """The whole page."""
    entry = f"{checked.instance}/{checked.index}"
    return page(
        f"Ledger entry {entry}",
        tag("h1", _KINDS.get(checked.kind, "An entry of the ledger")),
        tag(
            "p",
            "Entry ",
            code(entry),
            " of the ledger of ",
            value(checked.checkpoint.origin),
            ".",
            class_="note",
        ),
        *_told(checked),
        _in_short(checked),
        tag("h2", "What the entry says"),
        _parts(checked),
        *_withheld(checked),
        tag("h2", "The hashes"),
        facts(_hashes(checked)),
        tag("h2", "How to check it"),
        tag(
            "p",
            "This page was made from a file, the proof. Whoever has that file and the exchange's public key can check"
            " every word of it, without the exchange and without the ledger:",
        ),
        tag("pre", "entente audit check proof.json --public-key ledger.vkey"),
        tag(
            "p",
            "By hand: the SHA-256 hash over a zero byte and the leaf's own bytes, joined with the hashes in the file up"
            " to the root (RFC 6962, section 2.1), has to give the root above; and the checkpoint in the file, a signed"
            " note of the C2SP form, has to name that root and bear an Ed25519 signature of the exchange's key.",
        ),
    )


def _told(checked: CheckedProof) -> list[Markup]:
    told = story(checked.kind, checked.parts)
    return [] if told is None else [tag("p", told, class_="lead")]


def _in_short(checked: CheckedProof) -> Markup:
    said = joined(
        "On ",
        tag("strong", readable(checked.time_ms)),
        ", by its own clock, the exchange wrote this entry into its ledger as number"
        f" {checked.index}, counted from 0. It is one of {checked.checkpoint.size} that one signed statement covers.",
    )
    lead = tag("p", said, class_="lead")
    if checked.signed_by:
        trust = (
            "That statement is signed with a key that the maker of this page had from elsewhere and trusted. The exchange"
            " cannot deny the entry, and cannot have changed it since."
        )
        return tag("div", lead, tag("p", trust), class_="box")
    warning = (
        "That statement is signed, but no key was there to check that with. So this page shows only that the proof is"
        " consistent in itself, not that it comes from the exchange."
    )
    return tag("div", lead, tag("p", tag("strong", warning)), class_="box bad")


def _parts(checked: CheckedProof) -> Markup:
    rows: list[tuple[str, str]] = []
    for name, content in sorted(checked.parts.items()):
        rows.append((_PARTS.get(name, name), _shown(content)))
    return facts(rows) if rows else tag("p", "Its contents are not shown: only that it is there.")


def _shown(content: JsonValue) -> Markup:
    """A part's content: simple ones as a list of names and values, others as JSON."""
    if isinstance(content, dict) and all(_is_short(member) for member in content.values()):
        return _members(content)
    if isinstance(content, list) and len(content) == 1 and isinstance(content[0], dict):
        return _shown(content[0])
    if _is_simple(content):
        return value(_text(content))
    return tag("pre", value(json.dumps(content, ensure_ascii=False, indent=1, sort_keys=True)))


def _members(content: dict[str, JsonValue]) -> Markup:
    lines = [joined(value(name), ": ", value(_text(member))) for name, member in sorted(content.items())]
    return joined(*(joined(tag("br") if n else "", line) for n, line in enumerate(lines)))


def _is_simple(content: JsonValue) -> bool:
    if isinstance(content, list):
        return all(not isinstance(member, list | dict) for member in content)
    return not isinstance(content, dict)


def _is_short(content: JsonValue) -> bool:
    return _is_simple(content) or (isinstance(content, dict) and all(map(_is_simple, content.values())))


def _text(content: JsonValue) -> str:
    if isinstance(content, list):
        return ", ".join(map(_text, content)) or "none"
    if isinstance(content, dict):
        return ", ".join(f"{name} {_text(member)}" for name, member in sorted(content.items())) or "none"
    if isinstance(content, bool):
        return "yes" if content else "no"
    return "none" if content is None or content == "" else str(content)


def _withheld(checked: CheckedProof) -> list[Markup]:
    if checked.whole:
        return []
    told = (
        "The proof shows a part of the entry only. What else the entry says is covered by its hashes, and stays hidden from"
        " whoever has this proof."
    )
    return [tag("p", told, class_="note")]


def _hashes(checked: CheckedProof) -> list[tuple[str, str]]:
    checkpoint = checked.checkpoint
    signed = joined(*(joined(tag("br") if n else "", code(key)) for n, key in enumerate(checked.signed_by)))
    return [
        ("Leaf", code(checked.leaf_hash.hex())),
        ("Tree", joined(value(checkpoint.origin), f", {checkpoint.size} entries")),
        ("Root", code(checkpoint.root.hex())),
        ("Signed by", signed or "no key that was there to check with"),
    ]
