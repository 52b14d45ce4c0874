"""Field maps: inheritance, what is unreviewed, and what owners are told."""

from __future__ import annotations

import pytest

from broker.core.redact.fieldmap import UNREVIEWED, FieldMap
from broker.core.redact.paths import PathError
from broker.core.redact.unreviewed import unreviewed_paths


def test_markings_inherit_downward_and_add_up() -> None:
    fieldmap = FieldMap.compile({"$.a": ["x"], "$['a'].b": ["y"], '$["a"]["b"]': ["z"], "$.c[*].d": ["w"]})
    a = fieldmap.root.names["a"]
    assert a.markings == {"x"}
    assert a.names["b"].markings == {"x", "y", "z"}
    each = fieldmap.root.names["c"].elements
    assert each is not None
    assert not each.is_named
    assert each.names["d"].markings == {"w"}
    assert not fieldmap.root.is_named


def test_markings_of_the_type_include_unreviewed() -> None:
    assert FieldMap.compile({"$.a": ["x", "y"], "$.b": ["y"]}).markings == {"x", "y", UNREVIEWED}
    assert FieldMap.compile({}).markings == {UNREVIEWED}


@pytest.mark.parametrize("markings", [[], [""], "pii", [UNREVIEWED], ["pii", UNREVIEWED]])
def test_a_path_must_have_markings_of_its_own(markings: list[str]) -> None:
    with pytest.raises(ValueError, match=r"field path \$\.a: "):
        FieldMap.compile({"$.a": markings})


def test_a_path_outside_the_permitted_form_is_refused() -> None:
    with pytest.raises(PathError):
        FieldMap.compile({"$.a[0]": ["x"]})


@pytest.mark.parametrize(
    ("document", "paths"),
    [
        ({"a": {"b": 1}, "list": [{"c": 1}, {"c": 2}], "named": {"any": [1]}}, ()),
        ({"new": {"deep": 1}, "a": {"b": 1, "new": 2}}, ("$.a.new", "$.new")),
        ({"list": [{"c": 1, "x": 0}, {"x": 0}, 7, [8]]}, ("$.list[*]", "$.list[*].x")),
        ({"a": "scalar"}, ("$.a",)),
        ({"a": [{"b": 1}]}, ("$.a",)),
        ({"list": {"c": 1}}, ("$.list",)),
        ({"a": {}, "list": []}, ("$.a", "$.list")),
        ({"list": [{}]}, ("$.list[*]",)),
        ([1], ("$",)),
        (None, ("$",)),
        ({"nc:new\x1b": 1}, ("$['nc:new\\u001b']",)),
    ],
)
def test_unreviewed_paths(document: object, paths: tuple[str, ...]) -> None:
    fieldmap = FieldMap.compile({"$.a.b": ["x"], "$.list[*].c": ["y"], "$.named": ["z"]})
    assert unreviewed_paths(document, fieldmap) == paths


def test_a_path_to_the_document_names_everything() -> None:
    assert unreviewed_paths({"any": [1]}, FieldMap.compile({"$": ["x"]})) == ()
