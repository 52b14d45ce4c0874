"""The shape of a file of guarantees: strict, every key known."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from broker.core.rulebook.cases.shapes import ATTRIBUTES, LabelName
from broker.core.rulebook.shapes import Labels, Name, Names, Text, TypeNames

_SomeNames = Annotated[Names, Field(min_length=1)]
_SomeLabels = Annotated[Labels, Field(min_length=1)]


class _Shape(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)


class SubjectsShape(_Shape):
    """Subjects, but for their attributes, whose names the vocabulary knows."""

    agencies: _SomeNames | None = None
    roles: _SomeNames | None = None
    purposes: _SomeNames | None = None
    attributes: Annotated[dict[Name, _SomeLabels], Field(alias=ATTRIBUTES)] = Field(default_factory=dict)


class RecordsShape(_Shape):
    """Records."""

    owners: _SomeNames | None = None
    topics: _SomeNames | None = None
    types: Annotated[TypeNames, Field(min_length=1)] | None = None
    labels: dict[LabelName, _SomeLabels] = Field(default_factory=dict)


class GuaranteeShape(_Shape):
    """One guarantee."""

    why: Text
    side: Literal["owner", "consumer"] | None = None
    subjects: SubjectsShape = SubjectsShape()
    except_: Annotated[list[SubjectsShape], Field(alias="except", max_length=100)] = Field(
        default_factory=list
    )
    records: RecordsShape = RecordsShape()
    never: Annotated[list[Literal["release", "notice"]], Field(max_length=2)] = Field(default_factory=list)
    never_keep: Names = Field(default_factory=list)

    @model_validator(mode="after")
    def _says_something(self) -> GuaranteeShape:
        if not self.never and not self.never_keep:
            raise ValueError("needs 'never' or 'never_keep'")
        if "release" in self.never and self.never_keep:
            raise ValueError("what is never released keeps nothing: leave out 'never_keep'")
        return self


GuaranteesShape = Annotated[dict[Name, GuaranteeShape], Field(max_length=200)]
