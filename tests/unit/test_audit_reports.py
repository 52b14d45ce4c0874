"""The pages that people hand on: parsed as HTML, with content that would like to be more than text."""

from __future__ import annotations

import html
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from broker.cli.audit.markup import Markup, code, facts, joined, page, table, tag, value
from broker.cli.audit.proof_page import proof_page
from broker.cli.audit.stories import story
from broker.cli.audit.who_saw import Evidence
from broker.cli.audit.who_saw_page import who_saw_page
from broker.core.audit.proofs import CheckedProof
from broker.core.checkpoint.checkpoint import Checkpoint
from broker.model.audit import Publication, Sighting, Sightings

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "&lt;b&gt;&#60;i&#62;",
    "</bdi></td></table></main></body></html><h1>Nobody</h1>",
    "<!-- ",
    "]]>{{7*7}}${7*7}",
    "\u202egnp.exe\u2066\u200b\x00\x1b[31m\x85",
    "a\nb\rc",
    "javascript:alert(1)",
    "عربي",
    "x" * 5_000,
]
VOID = {"br", "meta"}
ELEMENTS = {
    *(
        "html",
        "head",
        "body",
        "main",
        "title",
        "style",
        "h1",
        "h2",
        "p",
        "div",
        "span",
        "strong",
        "bdi",
        "code",
    ),
    *("pre", "table", "thead", "tbody", "tr", "th", "td", "ul", "li", *VOID),
}
ATTRIBUTES = {
    "class": {"box", "box bad", "lead", "note", "place"},
    "scope": {"row", "col"},
    "lang": {"en"},
    "charset": {"utf-8"},
}
NOTE = b"exchange/broker\n30\nqqqq\n\n\xe2\x80\x94 exchange/broker Az3grlgtzPICa5OS8npV\n"


class Document(HTMLParser):
    """A page that was parsed: its elements have to nest, and be none but those that are expected."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.comments: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        assert name in ELEMENTS, name
        self.seen.append((name, dict(attributes)))
        if name not in VOID:
            self.open.append(name)

    def handle_endtag(self, name: str) -> None:
        assert self.open.pop() == name

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text.append(data)

    def handle_comment(self, data: str) -> None:
        self.comments.append(data)

    def unknown_decl(self, data: str) -> None:
        self.comments.append(data)


def parsed(text: str) -> Document:
    """The page, checked: no comment, no attribute with content of others, nothing to be fetched or run."""
    document = Document(text)
    assert document.comments == []
    for name, attributes in document.seen:
        if name == "meta":
            continue
        for key, content in attributes.items():
            assert content in ATTRIBUTES[key], (name, key, content)
    policy = [a["content"] for _, a in document.seen if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy and "default-src 'none'" in str(policy[0])
    assert "url(" not in text and "@import" not in text
    return document


def elements(document: Document) -> Counter[str]:
    """How many there are of each; parts are sorted by names that differ."""
    return Counter(name for name, _ in document.seen)


def evidence(text: str, *, complete: bool = True, effect: str = "release") -> Evidence:
    """A record that was published and handed out, everything in it spelled like this."""
    published = Publication(
        source=text,
        id=text,
        type=text,
        owner=text,
        labels={text: [text], "dataclassification": text},
        topic=text,
        partition=0,
        offset=7,
        duplicate=False,
        instance=text,
        index=12,
        time_ms=1_767_225_600_000,
    )
    seen = Sighting(
        time_ms=1_767_225_601_000,
        agency=text,
        subject=text,
        token=text,
        certificate=None,
        purpose=text,
        subscription=text,
        stream=text,
        effect=effect,
        treatments={text: {"kind": "mask", "keep_last": 2}},
        decision={"input": {"record": {"markings": [text, "pii"]}}, "output": {}},
        revision=text,
        engine=text,
        topic=text,
        partition=0,
        offset=7,
        acknowledged=False,
        acknowledged_ms=None,
        ended=text,
        instance=text,
        index=14,
    )
    hashes = {(text, 12): b"\x0c" * 32, (text, 14): b"\x0e" * 32}
    note = NOTE + text.encode()
    return Evidence(Sightings((published, published), (seen,), complete), hashes, {text: note}, text)


def proof(text: str, **changes: object) -> CheckedProof:
    """A proof of one receiver's part, everything in it spelled like this."""
    row = {"subject": text, "token": text, "nested": [text, {text: text}]}
    parts = {"receivers": [row], "class": {"agency": text, "roles": [text]}, "count": 3, text: {text: None}}
    checked = CheckedProof(
        instance=text,
        index=14,
        epoch=1,
        kind=text,
        time_ms=1_767_225_601_000,
        leaf_hash=b"\x0e" * 32,
        parts=parts,  # type: ignore[arg-type]
        whole=False,
        checkpoint=replace(Checkpoint("origin", 30, b"\x01" * 32)),
        signed_by=(text,),
        cosigned_by=(),
    )
    return replace(checked, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_words_stay_words_on_the_page_of_who_saw(text: str) -> None:
    clean = parsed(who_saw_page("s", "i", evidence("plain")))
    document = parsed(who_saw_page(text, text, evidence(text)))
    assert elements(document) == elements(clean)
    shown = "".join(document.text)
    assert "".join(each for each in shown if not each.isprintable() and each != "\n") == ""
    assert "\u202e" not in shown and "\x1b" not in shown


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_words_stay_words_on_the_page_of_a_proof(text: str) -> None:
    clean = parsed(proof_page(proof("plain")))
    document = parsed(proof_page(proof(text)))
    assert elements(document) == elements(clean)
    assert "".join(each for each in "".join(document.text) if not each.isprintable() and each != "\n") == ""


def test_the_page_says_who_was_handed_what() -> None:
    shown = " ".join("".join(parsed(who_saw_page("//ems/x", "C-7", evidence("ems"))).text).split())
    for told in (
        "handed to 1 person or system of 1 agency (ems). 0 have confirmed that it arrived.",
        "//ems/x",
        "C-7",
        "2026-01-01 00:00:01 UTC",
        "masked (except the last 2 characters): ems",
        "removed: pii",
        "not confirmed; the connection ended: ems",
        ("0e" * 32),
        "exchange/broker 30",
        "entente audit prove ems/12 --ledger EXPORT --out proof.json",
        "Every entry that could name the record was there to be read.",
    ):
        assert told in shown, told


def test_a_notice_and_gaps_are_told_as_such() -> None:
    shown = "".join(parsed(who_saw_page("s", "i", evidence("ems", complete=False, effect="notice"))).text)
    assert "a notice that the record exists, and nothing of it" in shown
    assert "1 of them got no more than a notice" in shown
    assert "This answer may be incomplete" in shown
    assert "in full" not in shown


def test_nobody_is_told_as_such() -> None:
    nobody = replace(evidence("ems"), found=Sightings((), (), True), checkpoints={}, hashes={}, origin="")
    shown = "".join(parsed(who_saw_page("s", "i", nobody)).text)
    assert "handed to nobody" in shown
    assert "does not say; perhaps before it begins" in shown
    assert "holds no signed checkpoint" in shown


def test_what_may_be_copied_to_a_shell_is_quoted() -> None:
    text = html.unescape(who_saw_page("s", "i", evidence("x; rm -rf ~")))
    assert "entente audit prove 'x; rm -rf ~/12' --ledger" in text


def test_a_proof_says_whether_a_trusted_key_signed_it() -> None:
    signed = "".join(parsed(proof_page(proof("x"))).text)
    assert "The exchange cannot deny the entry" in signed
    assert "only that the proof is consistent in itself" not in signed
    unsigned = "".join(parsed(proof_page(proof("x", signed_by=()))).text)
    assert "no key was there to check that with" in unsigned
    assert "only that the proof is consistent in itself" in unsigned
    assert "The exchange cannot deny the entry" not in unsigned


def test_a_partial_proof_says_that_it_is_one() -> None:
    assert "shows a part of the entry only" in proof_page(proof("x"))
    assert "shows a part of the entry only" not in proof_page(proof("x", whole=True))
    assert "Its contents are not shown" in proof_page(proof("x", parts={}))


@pytest.mark.parametrize(
    ("kind", "title"), [("delivery", "Records were handed out"), ("novel", "An entry of the ledger")]
)
def test_a_proof_is_titled_by_what_happened(kind: str, title: str) -> None:
    assert f"<h1>{title}</h1>" in proof_page(proof("x", kind=kind))


def test_only_tags_make_markup() -> None:
    assert tag("p", "<b>", tag("b", "&"), class_='"') == '<p class="&quot;">&lt;b&gt;<b>&amp;</b></p>'
    assert joined("<", Markup("<br>")) == "&lt;<br>"
    assert isinstance(joined("a") + "<b>", str) and not isinstance(joined("a") + "<b>", Markup)
    assert code("<") == "<code><bdi>&lt;</bdi></code>"
    assert value("\u202e\x07é") == "<bdi>\\u202e\\x07é</bdi>"
    assert "<td>&lt;</td>" in table(("<",), [("<",)]) and "<td>&lt;</td>" in facts([("<", "<")])
    parsed(page("</title><script>", tag("p", "x")))


WHO = {"agency": "ems", "subject": "medic-7"}
STORIES: list[tuple[str, dict[str, object], str]] = [
    (
        "delivery",
        {
            "class": {"topic": "crash-reports", "agency": "ems", "purpose": "care"},
            "receivers": [{"subject": "medic-7", "subscription": "intake"}, {"subject": "medic-8"}],
            "count": 3,
        },
        "3 records of the topic crash-reports went to medic-7 and 1 more of ems,"
        " through the subscription intake, for the purpose care.",
    ),
    (
        "delivery",
        {
            "class": {"topic": "t", "agency": "ems", "purpose": "care"},
            "receivers": {"subject": "medic-7", "subscription": ""},
            "count": 1,
        },
        "1 record of the topic t went to medic-7 of ems, for the purpose care.",
    ),
    (
        "publish",
        {"records": {"source": "//ems/x", "id": "7", "type": "t.v1"}},
        "The record 7 of //ems/x, of the type t.v1, was stored.",
    ),
    (
        "publish",
        {"records": [{"source": "//ems/x", "id": "7", "type": "t.v1", "refused": "ID_REUSED"}]},
        "The record 7 of //ems/x was refused: ID_REUSED.",
    ),
    ("publish", {"records": [{}, {}], "who": WHO}, "2 records came from medic-7 of ems."),
    (
        "stream_opened",
        {"who": WHO, "stream": {"topic": "t", "purpose": "care"}},
        "medic-7 of ems began to receive the topic t, for the purpose care.",
    ),
    (
        "call_refused",
        {"who": WHO, "call": {"method": "Subscribe", "reason": "TOPIC_NOT_FOUND"}},
        "medic-7 of ems called Subscribe and was refused: TOPIC_NOT_FOUND.",
    ),
]


@pytest.mark.parametrize(("kind", "parts", "told"), STORIES, ids=range(len(STORIES)))
def test_what_happened_is_told_in_a_sentence(kind: str, parts: dict[str, object], told: str) -> None:
    assert told in "".join(parsed(proof_page(proof("x", kind=kind, parts=parts))).text)


@pytest.mark.parametrize("kind", ["delivery", "publish", "stream_opened", "call_refused", "moved"])
def test_parts_of_another_form_make_no_sentence(kind: str) -> None:
    for parts in ({}, {"who": "x", "records": 7, "receivers": []}, {"class": [], "count": "3", "who": {}}):
        assert story(kind, parts) is None  # type: ignore[arg-type]


def test_short_parts_are_listed_and_deep_ones_shown_as_they_are() -> None:
    parts = {
        "class": {"agency": "ems", "attributes": {"clearance": "red"}},
        "decisions": [{"a": {"b": {"c": 1}}}, 2],
    }
    shown = proof_page(proof("x", parts=parts))
    assert "<bdi>attributes</bdi>: <bdi>clearance red</bdi>" in shown
    assert "<pre><bdi>[" in shown
