"""The shapes of the files of cases: strict, every key known."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from broker.core.rulebook.shapes import (
    Label,
    Labels,
    Moment,
    Name,
    Names,
    Subject,
    Text,
    TreatmentShape,
    TypeName,
)

Kind = Literal["keep", "remove", "mask", "pseudonym"]
LabelName = Literal["dataclassification", "dataregulation", "datacategory", "purposes", "releasableto"]

ATTRIBUTES = "\0attributes"
"""Attributes are written beside the other keys, since the vocabulary knows their names; this is no key that is written."""


class _Shape(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)


class PrincipalShape(_Shape):
    """One member of a file of principals, but for its attributes, whose names the vocabulary knows."""

    agency: Name
    id: Subject | None = None
    roles: Names
    purpose: Name | None = None
    unregistered: Literal[True] | None = None
    attributes: Annotated[dict[Name, Label], Field(alias=ATTRIBUTES)] = Field(default_factory=dict)


class LabelsShape(_Shape):
    """The labels of a record; those that are left out restrict nothing."""

    dataclassification: Label
    dataregulation: Labels = Field(default_factory=list)
    datacategory: Label | Literal[""] = ""
    purposes: Names = Field(default_factory=list)
    releasableto: Names = Field(default_factory=list)


class RecordShape(_Shape):
    """One member of a file of records."""

    topic: Name
    type: TypeName
    owner: Name
    labels: LabelsShape


_WITHOUT_TOPIC = frozenset({"audit", "administer"})


def _needs(given: CaseShape) -> CaseShape:
    """Which keys belong to which action."""
    action = given.action
    if (given.record is None) != (action in {"subscribe", *_WITHOUT_TOPIC}):
        raise ValueError(f"a case of '{action}' has {'no' if given.record else 'a'} record")
    if action == "subscribe" and given.topic is None:
        raise ValueError("a case of 'subscribe' has a topic")
    if (given.scope is None) == (action == "audit"):
        raise ValueError("'scope' belongs to 'action: audit', which needs it")
    if (given.verb is None) == (action == "administer"):
        raise ValueError("'verb' belongs to 'action: administer', which needs it")
    if given.verb is None and (given.areas or given.author or given.approvals or given.about):
        raise ValueError("'areas', 'author', 'approvals' and 'about' belong to 'action: administer'")
    topicless = action in _WITHOUT_TOPIC and given.topic
    if given.record is None and (given.labels or given.owner or given.type or topicless):
        raise ValueError(f"a case of '{action}' has no labels, owner or type")
    if given.treatments is not None and given.all is not None:
        raise ValueError("'treatments' and 'all' say the same; keep one")
    if given.effect != "release" and (given.treatments or given.all):
        raise ValueError("only what is released has treatments")
    if given.all is not None and given.action != "deliver":
        raise ValueError("'all' belongs to 'action: deliver'")
    return given


class CaseShape(_Shape):
    """One case. What it changes, by `as`, `labels` and so on, may be of any form: wrong input is what many are about."""

    action: Literal["deliver", "publish", "subscribe", "audit", "administer"] = "deliver"
    who: Name
    as_: Annotated[dict[Name, Any], Field(alias="as")] = Field(default_factory=dict)
    record: Name | None = None
    labels: dict[LabelName, Any] = Field(default_factory=dict)
    owner: Text | None = None
    type: Text | None = None
    topic: Text | None = None
    scope: Text | None = None
    verb: Text | None = None
    areas: Annotated[list[Text], Field(max_length=100)] = Field(default_factory=list)
    author: Name | None = None
    approvals: Annotated[list[Name], Field(max_length=100)] = Field(default_factory=list)
    about: dict[Name, Any] = Field(default_factory=dict)
    without: Annotated[list[Text], Field(max_length=20)] = Field(default_factory=list)
    at: Moment | None = None
    effect: Literal["release", "notice", "withhold"]
    treatments: dict[Name, Kind | TreatmentShape] | None = None
    all: Kind | None = None
    obligations: Names | None = None
    reasons: list[Text] = Field(default_factory=list)
    not_before: Moment | None = None
    valid_until: Moment | None = None

    _whole = model_validator(mode="after")(_needs)


CasesShape = Annotated[list[CaseShape], Field(max_length=10_000)]
PrincipalsShape = dict[Name, PrincipalShape]
RecordsShape = dict[Name, RecordShape]
