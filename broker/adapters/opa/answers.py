"""From OPA's answers to decisions: strict, because whatever is not understood must never release anything."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

import jsonschema_rs
import orjson

from broker.adapters.opa.child import RULEBOOK_NAME
from broker.errors import NoDecision, RulebookRefused
from broker.model.decision import Decision, Effect, Treatment, TreatmentKind
from broker.model.rulebook import Revision

_REQUIRED = frozenset({"id", "effect", "treatments", "obligations", "reasons"})
_ALLOWED = _REQUIRED | {"not_before", "valid_until"}
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z")
_NAMES_LIMIT = 256
_NAME_CHARACTERS = 256
_KEEP_LIMIT = 64
_INTERNED = 10_000


class _Malformed(Exception):
    """One output is not what the schema and this module allow."""


def compile_schema(revision: Revision, name: str) -> jsonschema_rs.Draft7Validator:
    """The revision's schema `schemas/<name>.schema.json` (draft 7, which `opa check --schema` reads), compiled.

    Nothing is fetched for a `$ref`, and patterns run in linear time. Raises RulebookRefused.
    """
    path = f"schemas/{name}.schema.json"
    try:
        schema = orjson.loads(revision.files[path])
        return jsonschema_rs.Draft7Validator(
            schema, retriever=_no_retrieval, pattern_options=jsonschema_rs.RegexOptions()
        )
    except KeyError:
        raise RulebookRefused((f"{path}: is missing; a rulebook needs it",)) from None
    except (
        orjson.JSONDecodeError,
        jsonschema_rs.ValidationError,
        jsonschema_rs.ReferencingError,
        ValueError,
    ) as error:
        raise RulebookRefused((f"{path}: {str(error).splitlines()[0]}; correct the schema",)) from None


def _no_retrieval(uri: str) -> Any:
    raise ValueError(f"'{uri}' is outside the schema")


class AnswerReader:
    """Reads the answers of one revision. Equal outputs share one Decision, which keeps the memo small."""

    def __init__(self, revision: Revision) -> None:
        self._revision = revision.id
        self._schema = compile_schema(revision, "decision")
        self._interned: dict[bytes, Decision] = {}
        self.malformed = 0

    def read(self, document: object, asked: Collection[str]) -> dict[str, Decision]:
        """Decisions by id for the items that `document` answers well.

        An id that was not asked, stands twice or comes with anything malformed has no decision.
        Raises NoDecision if the document as a whole is no answer of this revision.
        """
        decisions: dict[str, Decision] = {}
        seen: set[str] = set()
        for output in self._outputs(document):
            item_id = output.get("id") if isinstance(output, dict) else None
            if not isinstance(item_id, str) or item_id not in asked:
                self.malformed += 1
            elif item_id in seen:
                self.malformed += 1
                decisions.pop(item_id, None)
            else:
                seen.add(item_id)
                self._add(decisions, item_id, output)
        return decisions

    def _outputs(self, document: object) -> list[Any]:
        if not isinstance(document, dict):
            raise NoDecision("the policy engine's answer is no object")
        if revision_in(document) != self._revision:
            raise NoDecision("the policy engine answered with another revision")
        outputs = document.get("result")
        if not isinstance(outputs, list):
            raise NoDecision("the policy engine's answer holds no list of results")
        return outputs

    def _add(self, decisions: dict[str, Decision], item_id: str, output: dict[str, Any]) -> None:
        content = orjson.dumps({**output, "id": ""}, option=orjson.OPT_SORT_KEYS)
        decision = self._interned.get(content)
        if decision is None:
            try:
                decision = self._parse(output)
            except _Malformed:
                self.malformed += 1
                return
            if len(self._interned) >= _INTERNED:
                self._interned.clear()
            self._interned[content] = decision
        decisions[item_id] = decision

    def _parse(self, output: dict[str, Any]) -> Decision:
        # The revision's schema can only narrow what is accepted: the code below never trusts it.
        if not self._schema.is_valid(output) or not _REQUIRED <= output.keys() <= _ALLOWED:
            raise _Malformed
        treatments = output["treatments"]
        if not isinstance(treatments, dict) or len(treatments) > _NAMES_LIMIT:
            raise _Malformed
        return Decision(
            effect=_effect(output["effect"]),
            treatments={_name(marking): _treatment(value) for marking, value in treatments.items()},
            obligations=_names(output["obligations"]),
            reasons=_names(output["reasons"]),
            not_before=_time(output, "not_before"),
            valid_until=_time(output, "valid_until"),
        )


def revision_in(document: Mapping[str, Any]) -> object:
    """The rulebook's revision that OPA says it answered with, or None."""
    value: Any = document
    for key in ("provenance", "bundles", RULEBOOK_NAME, "revision"):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _effect(value: object) -> Effect:
    try:
        return Effect(value) if isinstance(value, str) else _refuse()
    except ValueError:
        raise _Malformed from None


def _treatment(value: object) -> Treatment:
    if not isinstance(value, dict) or not {"kind"} <= value.keys() <= {"kind", "keep_first", "keep_last"}:
        raise _Malformed
    try:
        kind = TreatmentKind(value["kind"]) if isinstance(value["kind"], str) else _refuse()
    except ValueError:
        raise _Malformed from None
    if kind is not TreatmentKind.MASK and len(value) > 1:
        raise _Malformed
    return Treatment(kind, _kept(value.get("keep_first", 0)), _kept(value.get("keep_last", 0)))


def _kept(value: object) -> int:
    if type(value) is not int or not 0 <= value <= _KEEP_LIMIT:
        raise _Malformed
    return value


def _names(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > _NAMES_LIMIT:
        raise _Malformed
    return tuple(_name(member) for member in value)


def _name(value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= _NAME_CHARACTERS:
        raise _Malformed
    return value


def _time(output: Mapping[str, Any], key: str) -> datetime | None:
    if key not in output:
        return None
    value = output[key]
    if not isinstance(value, str) or not _TIME.fullmatch(value):
        raise _Malformed
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        raise _Malformed from None


def _refuse() -> Any:
    raise _Malformed
