"""The algebra of redaction, on random documents, field maps and treatments.

Each leaf of a document carries a token that occurs nowhere else. What should become of a leaf is decided here a
second time, straight from the design's words: the markings of the paths that are a prefix of the leaf's path.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from broker.core.redact.accept import check_document
from broker.core.redact.apply import Redacted, redact
from broker.core.redact.fieldmap import UNREVIEWED, FieldMap
from broker.core.redact.paths import Path, Wildcard, format_path, parse_path
from broker.core.redact.plan import compile_plan
from broker.core.redact.pseudonym import pseudonymiser
from broker.core.redact.unreviewed import unreviewed_paths
from broker.model.decision import KEEP, REMOVE, Treatment, TreatmentKind, strictest

PLENTY = settings(max_examples=100, deadline=None)
HERE = pseudonymiser(b"k" * 32, owner="owner", receiver="receiver", purpose="purpose")
EACH = Wildcard.ELEMENTS
PSEUDONYM = Treatment(TreatmentKind.PSEUDONYM)

names = st.sampled_from(["a", "b", "nc:c", "d"])
markings = st.sampled_from(["m1", "m2", "m3"])
shapes = st.recursive(
    st.sampled_from(["string", "long", "integer"]),
    lambda inner: st.dictionaries(names, inner, max_size=4) | st.lists(inner, max_size=3),
    max_leaves=14,
)
objects = st.dictionaries(names, shapes, max_size=4)
some_markings = st.lists(markings, min_size=1, max_size=2, unique=True)
masks = st.builds(Treatment, st.just(TreatmentKind.MASK), st.integers(0, 5), st.integers(0, 5))
repeatable = st.sampled_from([KEEP, KEEP, REMOVE, Treatment(TreatmentKind.MASK)]) | masks
any_treatment = repeatable | st.just(PSEUDONYM)


Fields = dict[str, list[str]]
Treatments = dict[str, Treatment]


def decided(treatment: st.SearchStrategy[Treatment]) -> st.SearchStrategy[Treatments]:
    """A decision's treatments, not all markings of which need be mentioned."""
    return st.fixed_dictionaries({}, optional=dict.fromkeys(["m1", "m2", "m3", UNREVIEWED], treatment))


def filled(shape: object, count: Iterator[int]) -> Any:
    """The shape with a token of its own at each leaf: `<Q0012Q>`, longer ones, or a number."""
    if isinstance(shape, dict):
        return {name: filled(item, count) for name, item in shape.items()}
    if isinstance(shape, list):
        return [filled(item, count) for item in shape]
    number = next(count)
    if shape == "integer":
        return 770_000_000_000 + number
    return f"<Q{number:04d}Q>" + ("x" * 40 if shape == "long" else "")


def fill(shape: object) -> Any:
    return filled(shape, iter(range(10_000)))


@dataclass(frozen=True)
class Leaf:
    """A scalar or empty container: its exact place, its path, and its text in a document."""

    place: tuple[str | int, ...]
    value: object

    @property
    def path(self) -> Path:
        return tuple(EACH if isinstance(step, int) else step for step in self.place)

    @property
    def text(self) -> bytes:
        return orjson.dumps(self.value)


def leaves(value: Any, place: tuple[str | int, ...] = ()) -> Iterator[Leaf]:
    if isinstance(value, dict | list) and value:
        for step, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(item, (*place, step))
    else:
        yield Leaf(place, value)


def markings_of(leaf: Leaf, fields: Fields) -> set[str]:
    named: set[str] = set()
    for text, given_markings in fields.items():
        path = parse_path(text)
        if leaf.path[: len(path)] == path:
            named.update(given_markings)
    return named or {UNREVIEWED}


def treatment_of(leaf: Leaf, fields: Fields, treatments: Treatments) -> Treatment:
    found = markings_of(leaf, fields)
    if found == {UNREVIEWED} and treatments.get(UNREVIEWED) != KEEP:
        return REMOVE
    return strictest(treatments.get(marking, REMOVE) for marking in found)


@st.composite
def cases(draw: st.DrawFn, of: st.SearchStrategy[Any] = shapes) -> tuple[Any, Fields]:
    """A document, and a field map most of whose paths lead to places of it."""
    document = fill(draw(of))
    known = sorted(format_path(path) for path in places_shown(document))
    anywhere = st.lists(names | st.just(EACH), max_size=4).map(format_path)
    paths = st.sampled_from(known) | st.sampled_from(known) | anywhere
    return document, draw(st.dictionaries(paths, some_markings, max_size=8))


def run(document: object, fields: Fields, treatments: Treatments) -> Redacted:
    return redact(orjson.dumps(document), compile_plan(FieldMap.compile(fields), treatments), HERE)


def replaced(document: Any, place: tuple[str | int, ...], value: object) -> Any:
    """A copy with another value at the place."""
    changed = copy.deepcopy(document)
    inner = changed
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = value
    return changed


def without(document: Any, place: tuple[str | int, ...]) -> Any:
    """A copy in which the member or element at the place does not exist."""
    changed = copy.deepcopy(document)
    inner = changed
    for step in place[:-1]:
        inner = inner[step]
    del inner[place[-1]]
    return changed


@PLENTY
@given(cases(), decided(any_treatment))
def test_only_what_is_kept_comes_through(case: tuple[Any, Fields], treatments: Treatments) -> None:
    document, fields = case
    output = run(document, fields, treatments).data
    orjson.loads(output)
    for leaf in leaves(document):
        if isinstance(leaf.value, dict | list):
            continue
        treatment = treatment_of(leaf, fields, treatments)
        if treatment == KEEP:
            assert leaf.text in output
        else:
            assert leaf.text.strip(b'"') not in output
        if treatment.strictness > 1:
            assert leaf.text.strip(b'"').strip(b"x<>") not in output


@PLENTY
@given(cases(), decided(repeatable))
def test_redaction_is_idempotent(case: tuple[Any, Fields], treatments: Treatments) -> None:
    document, fields = case
    once = run(document, fields, treatments).data
    assert run(orjson.loads(once), fields, treatments).data == once


@PLENTY
@given(cases(), st.sampled_from(["", " ", "\n\t"]))
def test_keeping_everything_returns_the_stored_bytes(case: tuple[Any, Fields], space: str) -> None:
    document, fields = case
    stored = orjson.dumps(document, option=orjson.OPT_INDENT_2) + space.encode()
    keep_all = dict.fromkeys(["m1", "m2", "m3", UNREVIEWED], KEEP)
    result = redact(stored, compile_plan(FieldMap.compile(fields), keep_all), HERE)
    assert result == Redacted(stored)
    assert result.data is stored


@PLENTY
@given(cases(), decided(any_treatment), st.data())
def test_what_is_removed_might_as_well_never_have_been_there(
    case: tuple[Any, Fields], treatments: Treatments, data: st.DataObject
) -> None:
    document, fields = case
    removed = [
        leaf for leaf in leaves(document) if leaf.place and treatment_of(leaf, fields, treatments) == REMOVE
    ]
    assume(removed)
    leaf = data.draw(st.sampled_from(removed))
    assert (
        run(without(document, leaf.place), fields, treatments).data == run(document, fields, treatments).data
    )


@PLENTY
@given(cases(objects), decided(any_treatment), st.data())
def test_what_is_masked_whole_might_as_well_be_anything(
    case: tuple[Any, Fields], treatments: Treatments, data: st.DataObject
) -> None:
    document, fields = case
    found = [leaf for leaf in leaves(document) if leaf.place and not isinstance(leaf.value, dict | list)]
    assume(found)
    leaf = data.draw(st.sampled_from(found))
    fields.setdefault(format_path(leaf.path), []).append("m1")
    treatments["m1"] = Treatment(TreatmentKind.MASK)
    other = data.draw(st.sampled_from([None, True, -1.5, "", "other", "y" * 50]))
    changed = replaced(document, leaf.place, other)
    assert run(changed, fields, treatments).data == run(document, fields, treatments).data


@PLENTY
@given(cases(objects), decided(any_treatment), shapes, st.data())
def test_an_unnamed_field_changes_nothing(
    case: tuple[Any, Fields],
    treatments: Treatments,
    new: object,
    data: st.DataObject,
) -> None:
    treatments.pop(UNREVIEWED, None)
    document, fields = case
    extended = copy.deepcopy(document)
    places = [leaf.place[:end] for leaf in leaves(document) for end in range(len(leaf.place) + 1)]
    place = data.draw(st.sampled_from(places))
    target = extended
    for step in place:
        target = target[step]
    assume(isinstance(target, dict))
    assume(markings_of(Leaf((*place, "new"), None), fields) == {UNREVIEWED})
    target["new"] = new
    before, after = run(document, fields, treatments), run(extended, fields, treatments)
    assert (after.data, after.masked) == (before.data, before.masked)
    assert unreviewed_paths(extended, FieldMap.compile(fields)) != ()


@PLENTY
@given(cases(), decided(any_treatment), decided(any_treatment))
def test_stricter_treatments_never_reveal_more(
    case: tuple[Any, Fields],
    treatments: Treatments,
    further: Treatments,
) -> None:
    document, fields = case
    stricter = {
        marking: strictest([treatment, further.get(marking, KEEP)])
        for marking, treatment in treatments.items()
    }
    loose, strict = run(document, fields, treatments).data, run(document, fields, stricter).data
    for leaf in leaves(document):
        if not isinstance(leaf.value, dict | list) and leaf.text in strict:
            assert leaf.text in loose
    if strict != b"{}":
        assert places_shown(orjson.loads(strict)) <= places_shown(orjson.loads(loose))


def places_shown(document: object) -> set[Path]:
    """All paths of a document, those of its containers included."""
    return {leaf.path[:end] for leaf in leaves(document) for end in range(len(leaf.path) + 1)}


@PLENTY
@given(cases())
def test_the_count_and_the_owners_report_agree(case: tuple[Any, Fields]) -> None:
    document, fields = case
    fieldmap = FieldMap.compile(fields)
    reported = unreviewed_paths(document, fieldmap)
    result = run(document, fields, dict.fromkeys(["m1", "m2", "m3"], KEEP))
    assert (result.unreviewed_removed > 0) == bool(reported)
    unnamed = {leaf.path for leaf in leaves(document) if markings_of(leaf, fields) == {UNREVIEWED}}
    paths = {parse_path(text) for text in reported}
    for leaf_path in unnamed:
        assert any(leaf_path[: len(path)] == path for path in paths)
    for path in paths:
        assert any(leaf_path[: len(path)] == path for leaf_path in unnamed)


@PLENTY
@given(shapes)
def test_what_publish_accepts_is_written_as_it_was_read(shape: object) -> None:
    stored = orjson.dumps(fill(shape))
    assert orjson.dumps(check_document(stored)) == stored
