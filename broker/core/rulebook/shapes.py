"""The shapes of the rulebook's data files: strict, every key known."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

MAX_PARTITIONS = 32
_TIME_FORMAT = "%Y-%m-%dT%H:%M:%SZ"
_YEAR_S = 366 * 86_400


def _distinct(values: list[str]) -> list[str]:
    if len(set(values)) != len(values):
        raise ValueError("names one thing twice")
    return values


@lru_cache(maxsize=10_000)
def _moment(value: str) -> str:
    try:
        parsed = datetime.strptime(value, _TIME_FORMAT).replace(tzinfo=UTC)
    except ValueError:
        parsed = None
    # Agreements are compared as texts in Rego, so there is exactly one way to write a moment.
    if parsed is None or parsed.strftime(_TIME_FORMAT) != value:
        raise ValueError('is no moment like "2026-01-01T00:00:00Z"')
    return value


Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
"""Agencies, topics, agreements, purposes, roles, markings, obligations."""

Label = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9+._-]{0,62}$")]
"""What a label may say: no comma, which separates the values of a list."""

TypeName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,126}$")]
AttributeName = Annotated[str, Field(pattern=r"^[a-z0-9]{1,20}$")]  # CloudEvents 1.0, naming conventions
Text = Annotated[str, Field(min_length=1, max_length=500, pattern=r"^[^\x00-\x1f\x7f]+$")]
Url = Annotated[str, Field(max_length=500, pattern=r"^https://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[!-~]*)?$")]
KeyFile = Annotated[str, Field(pattern=r"^keys/[a-z0-9][a-z0-9._-]{0,99}\.jwks\.json$")]
ContentType = Annotated[str, Field(pattern=r"^[a-z0-9.+-]{1,60}/[a-z0-9.+-]{1,100}$")]
Moment = Annotated[str, AfterValidator(_moment)]
Subject = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]+$")]
"""The claim `sub` of a token."""

# Of each list the first fault is told: a file may hold millions.
Names = Annotated[list[Name], Field(fail_fast=True), AfterValidator(_distinct)]
Labels = Annotated[list[Label], Field(fail_fast=True), AfterValidator(_distinct)]
TypeNames = Annotated[list[TypeName], Field(fail_fast=True), AfterValidator(_distinct)]


class _Shape(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)


class IssuerShape(_Shape):
    """One token issuer and where its keys are."""

    issuer: Url
    jwks_file: KeyFile | None = None
    jwks_url: Url | None = None

    @model_validator(mode="after")
    def _one_source(self) -> IssuerShape:
        if (self.jwks_file is None) == (self.jwks_url is None):
            raise ValueError("must have exactly one of jwks_file and jwks_url")
        return self


class AgencyShape(_Shape):
    """data/agencies/<agency>/data.yaml"""

    name: Text
    contact: Text
    issuers: Annotated[list[IssuerShape], Field(fail_fast=True)]
    roles: Names
    purposes: Names
    attributes: dict[Name, Label]
    max_token_lifetime_s: Annotated[int, Field(ge=60, le=86_400)]


class TopicShape(_Shape):
    """One member of data/topics/data.yaml"""

    description: Text
    steward: Name
    accepts: TypeNames
    partitions: Annotated[int, Field(ge=1, le=MAX_PARTITIONS)]
    retention_s: Annotated[int, Field(ge=60, le=100 * _YEAR_S)] | None


class RecordTypeShape(_Shape):
    """One member of data/record_types/<owner>/data.yaml"""

    description: Text
    content_type: ContentType
    publishers: Names
    fields: dict[str, Names]
    attributes: dict[AttributeName, Names]


class TreatmentShape(_Shape):
    """What an agreement says of one marking."""

    kind: Literal["keep", "remove", "mask", "pseudonym"]
    keep_first: Annotated[int, Field(ge=0, le=64)] = 0
    keep_last: Annotated[int, Field(ge=0, le=64)] = 0

    @model_validator(mode="after")
    def _mask_only(self) -> TreatmentShape:
        if self.kind != "mask" and self.model_fields_set & {"keep_first", "keep_last"}:
            raise ValueError("has keep_first or keep_last, which belong to mask only")
        return self


class AgreementShape(_Shape):
    """One member of data/agreements/<owner>/data.yaml"""

    consumer: Name
    topics: Names
    purposes: Names
    highest: Label
    grants: Literal["records", "notice"]
    treatments: dict[Name, TreatmentShape]
    obligations: Names
    start: Annotated[Moment, Field(alias="from")]
    until: Moment | None
    history: bool

    @model_validator(mode="after")
    def _in_order(self) -> AgreementShape:
        if self.until is not None and self.until <= self.start:
            raise ValueError("ends before it begins")
        return self


class VocabularyShape(_Shape):
    """data/vocabulary/data.yaml"""

    classifications: Annotated[Labels, Field(min_length=1)]
    purposes: Names
    regulations: Labels
    categories: Labels
    roles: Names
    attributes: dict[Name, Literal["classification"]]
    markings: Names


AdministratorsShape = Annotated[list[Subject], AfterValidator(_distinct), Field(max_length=100)]
"""data/administrators/<agency>/data.yaml"""


class ApprovalsShape(_Shape):
    """How many persons approve, beside the author."""

    exchange: Annotated[int, Field(ge=1, le=10)]
    agency: Annotated[int, Field(ge=1, le=10)]


class AdministrationShape(_Shape):
    """data/administration/data.yaml"""

    approvals: ApprovalsShape
    ratify_hours: Annotated[int, Field(ge=1, le=720)]
    public_reasons: Annotated[list[Text], AfterValidator(_distinct), Field(max_length=100)] = []
