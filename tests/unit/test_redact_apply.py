"""Plans and their application: each rule once, by example."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import orjson
import pytest

from broker.core.redact.apply import Pseudonymise, redact, redact_members
from broker.core.redact.fieldmap import UNREVIEWED, FieldMap
from broker.core.redact.plan import MAX_KEPT_CHARACTERS, Plan, Unredactable, compile_plan
from broker.core.redact.pseudonym import pseudonymiser
from broker.model.decision import KEEP, REMOVE, Treatment, TreatmentKind, strictest

MASK = Treatment(TreatmentKind.MASK)
PSEUDONYM = Treatment(TreatmentKind.PSEUDONYM)
KEY = bytes(range(32))
FILLER = "*" * 8

HERE = pseudonymiser(KEY, owner="owner", receiver="ems", purpose="emergency-response")

TREATMENTS = {"open": KEEP, "secret": REMOVE, "masked": MASK, "id": PSEUDONYM}


def plan_of(fields: Mapping[str, Sequence[str]], treatments: Mapping[str, Treatment] = TREATMENTS) -> Plan:
    return compile_plan(FieldMap.compile(fields), treatments)


def redacted(document: object, plan: Plan, pseudonymise: Pseudonymise = HERE) -> object:
    return orjson.loads(redact(orjson.dumps(document), plan, pseudonymise).data)


def masking(keep_first: int = 0, keep_last: int = 0) -> Treatment:
    return Treatment(TreatmentKind.MASK, keep_first, keep_last)


# What is named, and what is not


FIELDS = {
    "$.a.b": ["open"],
    "$.list[*].c": ["open"],
    "$.named": ["open"],
    "$.either.x": ["open"],
    "$.either[*]": ["open"],
}


@pytest.mark.parametrize(
    ("document", "expected", "unreviewed"),
    [
        ({"a": {"b": 1}, "named": {"any": [1, {}]}}, {"a": {"b": 1}, "named": {"any": [1, {}]}}, 0),
        ({"a": {"b": 1, "new": 2}, "new": {"deep": 3}}, {"a": {"b": 1}}, 2),
        ({"a": {"b": {"all": {}, "below": []}}}, {"a": {"b": {"all": {}, "below": []}}}, 0),
        ({"a": 1, "named": 1}, {"named": 1}, 1),
        ({"a": [{"b": 1}], "named": []}, {"named": []}, 1),
        ({"a": {}, "list": [], "named": {}}, {"named": {}}, 2),
        ({"list": {"c": 1}}, {}, 1),
        ({"list": [{"c": 1}, {"x": 2}, 3, [4], {}, {"c": 5, "x": 6}]}, {"list": [{"c": 1}, {"c": 5}]}, 5),
        ({"either": {"x": 1, "y": 2}}, {"either": {"x": 1}}, 1),
        ({"either": [1, {"x": 2}]}, {"either": [1, {"x": 2}]}, 0),
        ([{"a": {"b": 1}}], {}, 1),
        ("scalar", {}, 1),
    ],
)
def test_what_no_path_names_is_removed_and_counted(
    document: object, expected: object, unreviewed: int
) -> None:
    result = redact(orjson.dumps(document), plan_of(FIELDS), HERE)
    assert orjson.loads(result.data) == expected
    assert result.unreviewed_removed == unreviewed
    assert result.masked == ()


def test_unreviewed_is_kept_only_by_keep() -> None:
    document = {"a": {"b": 1, "new": 2}, "other": [3]}
    assert redacted(document, plan_of({"$.a.b": ["secret"]}, {UNREVIEWED: KEEP})) == {
        "a": {"new": 2},
        "other": [3],
    }
    for treatment in (MASK, masking(1), PSEUDONYM, REMOVE):
        assert redacted(document, plan_of({"$.a.b": ["open"]}, {"open": KEEP, UNREVIEWED: treatment})) == {
            "a": {"b": 1}
        }


def test_a_marking_that_the_decision_leaves_out_is_removed() -> None:
    assert redacted({"a": 1, "b": 2}, plan_of({"$.a": ["open"], "$.b": ["unheard-of"]})) == {"a": 1}
    assert redacted({"a": 1}, plan_of({"$.a": ["open", "unheard-of"]})) == {}


# Several markings


def test_of_several_markings_the_strictest_counts() -> None:
    fields = {
        "$.a": ["open"],
        "$.a.m": ["masked"],
        "$.a.m.s": ["secret"],
        "$.b": ["id", "masked"],
        "$.c": ["secret", "id"],
    }
    assert redacted({"a": {"m": 1, "o": 2}, "b": 3, "c": 4}, plan_of(fields)) == {
        "a": {"m": FILLER, "o": 2},
        "b": FILLER,
    }


def test_the_strictest_does_not_depend_on_order() -> None:
    treatments = [masking(3, 0), PSEUDONYM, masking(0, 3), KEEP]
    assert strictest(treatments) == strictest(reversed(treatments)) == MASK
    assert strictest([masking(3, 2), masking(1, 4), KEEP]) == masking(1, 2)
    assert strictest([masking(3, 2), PSEUDONYM]) == PSEUDONYM
    assert strictest([MASK, PSEUDONYM]) == MASK
    assert strictest([]) == REMOVE


def test_a_second_mask_never_shows_more_of_short_values() -> None:
    treatments = {"five": masking(5), "one": masking(1)}
    assert redacted({"a": "abcd"}, plan_of({"$.a": ["one"]}, treatments)) == {"a": "a" + FILLER}
    both = redacted(
        {"a": "abcd", "b": "abcdefghijklmno"},
        plan_of({"$.a": ["one", "five"], "$.b": ["one", "five"]}, treatments),
    )
    assert both == {"a": "*" * 15, "b": "a" + "*" * 14}


# Remove


@pytest.mark.parametrize(
    "document", [{}, {"list": []}, {"list": [1]}, {"list": [1, 2, 3]}, {"list": {"x": 1}}, {"list": None}]
)
def test_a_removed_list_shows_neither_its_length_nor_that_it_was_there(document: object) -> None:
    for path in ("$.list", "$.list[*]", "$.other"):
        result = redact(orjson.dumps(document), plan_of({path: ["secret"], "$.kept": ["open"]}), HERE)
        assert result.data == b"{}"


def test_removed_elements_leave_no_gap() -> None:
    plan = plan_of({"$.list[*].s": ["secret"], "$.list[*].o": ["open"]})
    assert redacted({"list": [{"s": 1}, {"o": 2, "s": 3}, {"s": 4}]}, plan) == {"list": [{"o": 2}]}


def test_containers_that_only_held_what_is_removed_vanish_also_where_they_are_named() -> None:
    plan = plan_of({"$.a": ["open"], "$.a.s": ["secret"], "$.o": ["open"]})
    assert redacted({"a": {"s": 1}, "o": {}}, plan) == {"o": {}}
    assert redacted({"a": {}, "o": {}}, plan) == {"o": {}}, "empty from the start looks the same"
    assert redacted({"a": {"s": 1, "x": {}}}, plan) == {"a": {"x": {}}}
    assert redacted({"a": 5}, plan) == {"a": 5}


# Mask


@pytest.mark.parametrize(
    "value", [None, True, 0, -1.5, "", "x", "a long secret value", [], [1, 2], {}, {"k": "v"}]
)
def test_a_mask_is_the_same_for_every_value(value: object) -> None:
    result = redact(orjson.dumps({"a": value}), plan_of({"$.a": ["masked"]}), HERE)
    assert result.data == b'{"a":"********"}'
    assert result.masked == ("masked",)


@pytest.mark.parametrize(
    ("treatment", "value", "expected"),
    [
        (masking(keep_last=3), "A1234567", "*" * 11),
        (masking(keep_last=3), "A12345678", FILLER + "678"),
        (masking(keep_first=2), "A12345", "A1" + FILLER),
        (masking(keep_first=2), "A1234", "*" * 10),
        (masking(1, 1), "abcdef", "a" + FILLER + "f"),
        (masking(1, 1), "abcde", "*" * 10),
        (masking(keep_first=5), "abcdefghijklmno", "abcde" + "*" * 10),
        (masking(keep_first=1), "äöü", "ä" + FILLER),
        (masking(keep_first=1), 123456, "*" * 9),
        (masking(keep_first=1), ["abcdef"], "*" * 9),
        (masking(keep_first=1), None, "*" * 9),
    ],
)
def test_a_mask_may_keep_characters_of_strings_of_three_times_as_many(
    treatment: Treatment, value: object, expected: str
) -> None:
    plan = plan_of({"$.a": ["partly"]}, {"partly": treatment})
    once = redacted({"a": value}, plan)
    assert once == {"a": expected}
    assert redacted(once, plan) == once


def test_what_is_removed_below_a_mask_goes_first() -> None:
    plan = plan_of({"$.a": ["masked"], "$.a.s": ["secret"]})
    assert redacted({"a": {"s": 1, "x": 2}}, plan) == {"a": FILLER}
    assert redacted({"a": {"s": 1}}, plan) == redacted({"a": {}}, plan) == redacted({}, plan)
    assert redacted([], plan_of({"$": ["masked"], "$[*]": ["secret"]})) == {}
    assert redacted({}, plan_of({"$": ["masked"], "$[*]": ["secret"]})) == {}


@pytest.mark.parametrize(
    "treatment",
    [masking(-1), masking(0, -1), masking(MAX_KEPT_CHARACTERS, 1), Treatment(TreatmentKind.KEEP, 1, 0)],
)
def test_a_treatment_that_cannot_be_carried_out_is_refused(treatment: Treatment) -> None:
    with pytest.raises(Unredactable, match="treatment of marking 'odd'"):
        plan_of({"$.a": ["open"]}, {"open": KEEP, "odd": treatment})


# Pseudonym


def pseudonym_of(value: object, pseudonymise: Pseudonymise = HERE, marking: str = "id") -> str:
    treatments = {"id": PSEUDONYM, "id2": PSEUDONYM, "open": KEEP}
    result = redact(orjson.dumps({"a": value}), plan_of({"$.a": [marking, "open"]}, treatments), pseudonymise)
    assert result.masked == (marking,)
    text = orjson.loads(result.data)["a"]
    assert isinstance(text, str)
    return text


def test_a_pseudonym_has_one_form() -> None:
    for value in (None, 1, "A1234567", [1], {"k": "v" * 100}):
        text = pseudonym_of(value)
        assert text[0] == "~"
        assert len(text) == 27
        assert set(text[1:]) <= set("abcdefghijklmnopqrstuvwxyz234567")


def test_equal_values_have_equal_pseudonyms_and_no_others() -> None:
    assert pseudonym_of({"x": 1, "y": [2, "z"]}) == pseudonym_of({"y": [2, "z"], "x": 1})
    values = [1, "1", 1.0, True, None, "null", [1], ["1"], {"1": 1}, "", {}, []]
    assert len({pseudonym_of(value) for value in values}) == len(values)


def test_pseudonyms_cannot_be_linked_across_owner_receiver_purpose_marking_or_key() -> None:
    functions = [
        HERE,
        pseudonymiser(KEY, owner="other", receiver="ems", purpose="emergency-response"),
        pseudonymiser(KEY, owner="owner", receiver="transport", purpose="emergency-response"),
        pseudonymiser(KEY, owner="owner", receiver="ems", purpose="law-enforcement"),
        pseudonymiser(KEY, owner="ownere", receiver="ms", purpose="emergency-response"),
        pseudonymiser(KEY[::-1], owner="owner", receiver="ems", purpose="emergency-response"),
    ]
    texts = {pseudonym_of("A1234567", function) for function in functions}
    texts.add(pseudonym_of("A1234567", marking="id2"))
    assert len(texts) == len(functions) + 1


def test_several_markings_that_ask_for_a_pseudonym_have_a_key_together() -> None:
    asked: list[tuple[str, bytes]] = []

    def record(marking: str, value: bytes) -> str:
        asked.append((marking, value))
        return "~"

    plan = plan_of({"$.a": ["open", "id", "also"]}, {"open": KEEP, "id": PSEUDONYM, "also": PSEUDONYM})
    result = redact(b'{"a": {"y": 1, "x": "\\u0041"}}', plan, record)
    assert asked == [("also+id", b'{"x":"A","y":1}')]
    assert result.masked == ("also", "id")


def test_a_pseudonym_does_not_depend_on_what_is_hidden_inside() -> None:
    plan = plan_of({"$.a": ["id"], "$.a.s": ["secret"], "$.a.m": ["masked"], "$.a.list[*].s": ["secret"]})
    one = redact(b'{"a":{"x":1,"s":2,"m":3,"list":[{"s":4}]}}', plan, HERE)
    two = redact(b'{"a":{"x":1,"m":[5,6],"list":[]}}', plan, HERE)
    assert one == two
    assert one.masked == ("id",), "the mask inside is not visible"
    assert redacted({"a": {"s": 1}}, plan) == redacted({"a": {}}, plan) == {}
    assert redacted({"a": {"x": 2, "m": 3}}, plan) != redacted({"a": {"x": 1, "m": 3}}, plan)


def test_a_failing_key_is_not_a_verdict() -> None:
    def fail(marking: str, value: bytes) -> str:
        raise ConnectionError("no key")

    with pytest.raises(ConnectionError):
        redact(b'{"a":1}', plan_of({"$.a": ["id"]}), fail)


def test_a_short_key_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 32 bytes"):
        pseudonymiser(b"short", owner="o", receiver="r", purpose="p")


# The whole document


@pytest.mark.parametrize("document", [{}, {"x": 1}, [], [1, 2], "x", None, 5])
def test_a_document_of_which_nothing_is_left_is_an_empty_object(document: object) -> None:
    assert redact(orjson.dumps(document), plan_of({"$": ["secret"]}), HERE).data == b"{}"


def test_the_whole_document_may_be_masked_or_a_pseudonym() -> None:
    assert redacted({"x": 1}, plan_of({"$": ["masked"]})) == FILLER
    assert str(redacted({"x": 1}, plan_of({"$": ["id"]}))).startswith("~")


def test_an_identity_plan_returns_the_stored_bytes() -> None:
    stored = b'{ "a" : 1.10, "b": "\\u0041" }'
    for plan in (plan_of({"$": ["open"]}), plan_of({"$.a": ["open"]}, {"open": KEEP, UNREVIEWED: KEEP})):
        assert plan.is_identity
        assert redact(stored, plan, HERE).data is stored
    assert not plan_of({"$.a": ["open"]}).is_identity
    assert not plan_of({"$.a": ["masked"]}, TREATMENTS | {UNREVIEWED: KEEP}).is_identity


@pytest.mark.parametrize("data", [b"", b"{", b'{"a":"SECRET}', b'"\xff"', b"[" * 2_000 + b"]" * 2_000])
def test_what_is_not_json_is_unredactable(data: bytes) -> None:
    with pytest.raises(Unredactable) as caught:
        redact(data, plan_of({"$.a": ["open"]}), HERE)
    assert "SECRET" not in str(caught.value)
    assert caught.value.__context__ is None, "a parser's error would hold the document"


@pytest.mark.parametrize("marking", ["open", "id"])
def test_what_is_too_deep_to_be_written_is_unredactable(marking: str) -> None:
    data = b'{"a":' + b"[" * 500 + b"]" * 500 + b"}"
    with pytest.raises(Unredactable):
        redact(data, plan_of({"$.a": [marking]}), HERE)


def test_plans_that_do_the_same_are_equal() -> None:
    fields = {"$.a": ["open", "x"], "$.b[*]": ["secret"], "$.c": ["masked"]}
    other = {"$.c": ["masked"], "$['b'][*]": ["unheard-of"], "$.a": ["open"]}
    plan = plan_of(fields, TREATMENTS | {"x": KEEP})
    assert plan == plan_of(other)
    assert len({plan, plan_of(other)}) == 1
    for different in (
        plan_of({**other, "$.c": ["secret"]}),
        plan_of({**other, "$.d": ["open"]}),
        plan_of(other, {**TREATMENTS, UNREVIEWED: KEEP}),
        plan_of(other, {**TREATMENTS, "masked": masking(1)}),
        plan_of(other, {**TREATMENTS, "masked": PSEUDONYM}),
    ):
        assert plan != different


def test_members_are_redacted_like_fields() -> None:
    plan = plan_of({"$.subject": ["id"], "$.region": ["open"], "$.unit": ["masked"], "$.officer": ["secret"]})
    members = {"subject": "s", "region": "r", "unit": 7, "officer": "o", "new": "n"}
    left, masked = redact_members(members, plan, HERE)
    assert left == {"subject": HERE("id", b'"s"'), "region": "r", "unit": FILLER}
    assert masked == ("id", "masked")
    assert redact_members({"new": "n"}, plan, HERE) == ({}, ())
    assert len(members) == 5
