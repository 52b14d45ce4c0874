"""Carrying a plan out: one stored document in, the bytes that a consumer receives out.

The walk goes no deeper than the plan; what is kept whole is not looked at. Documents are taken to be such as
`accept.check_document` lets in; of others, only their being JSON is checked again here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import orjson

from broker.core.redact.plan import KEEP_ALL, Drop, Keep, Mask, Plan, Step, Unredactable, Walk

Pseudonymise = Callable[[str, bytes], str]
"""(marking, canonical JSON of the value) -> the pseudonym; see `pseudonym.pseudonymiser`."""

NOTHING_LEFT: Final = b"{}"
"""What is delivered of a document of which nothing is left, whatever it was."""

_GONE: Final = object()


class Redacted(NamedTuple):
    """A redacted document.

    masked: the markings of what was visibly replaced (masked or pseudonym), sorted; fit for the consumer.
    unreviewed_removed: how many places vanished because no path names them; for the owner and operator only.
    """

    data: bytes
    masked: tuple[str, ...] = ()
    unreviewed_removed: int = 0


def redact(data: bytes, plan: Plan, pseudonymise: Pseudonymise) -> Redacted:
    """The document as the plan has it; under an identity plan `data` itself, unparsed.

    Raises Unredactable. What `pseudonymise` raises comes through: a missing key is an outage, not a verdict.
    """
    if plan.is_identity:
        return Redacted(data)
    run = _Run(pseudonymise)
    result = _apply(plan.root, _parse(data), run)
    redacted = NOTHING_LEFT if result is _GONE else _serialise(result)
    return Redacted(redacted, tuple(sorted(run.masked)) if run.masked else (), run.unreviewed_removed)


def redact_members(
    members: Mapping[str, object], plan: Plan, pseudonymise: Pseudonymise
) -> tuple[dict[str, object], tuple[str, ...]]:
    """The same for a flat set of members, such as a record's attributes: what is left of them, and `masked`.

    The field map behind the plan has one path a member (`$.subject`). Raises as `redact` does.
    """
    run = _Run(pseudonymise)
    result = _apply(plan.root, dict(members), run)
    return result if isinstance(result, dict) else {}, tuple(sorted(run.masked))


@dataclass(slots=True)
class _Run:
    """What is noted while one document is walked."""

    pseudonymise: Pseudonymise
    masked: set[str] = field(default_factory=set)
    unreviewed_removed: int = 0


def _apply(step: Step, value: object, run: _Run) -> object:
    """What the step leaves of the value, or _GONE."""
    if isinstance(step, Walk):
        return _walk(step, value, run)
    if isinstance(step, Keep):
        return value
    if isinstance(step, Drop):
        run.unreviewed_removed += step.unreviewed
        return _GONE
    if step.below is not None:
        value = _walk(step.below, value, _Run(run.pseudonymise))  # what happens in there is not visible
        if value is _GONE:
            return _GONE
    run.masked.update(step.markings)
    if isinstance(step, Mask):
        return _mask(step, value)
    return run.pseudonymise(step.marking, _canonical(value))


def _walk(step: Walk, value: object, run: _Run) -> object:
    left: dict[str, object] | list[object]
    if isinstance(value, dict) and step.names is not None:
        left = _walk_object(step.names, step.default, value, run)
    elif isinstance(value, list) and step.elements is not None:
        results = [_apply(step.elements, item, run) for item in value]
        left = [result for result in results if result is not _GONE]
    elif isinstance(value, dict | list) and not value:
        left = value
    else:
        return _apply(step.default, value, run)
    if left or not step.removes:
        return left
    if not value:  # empty to begin with: a field that no path names, unless the default says otherwise
        _apply(step.default, value, run)
    return _GONE


def _walk_object(
    names: Mapping[str, Step], default: Keep | Drop, value: dict[str, object], run: _Run
) -> dict[str, object]:
    left: dict[str, object] = {}
    for name, item in value.items():
        step = names.get(name, default)
        if step is KEEP_ALL:  # most members are kept, or dropped
            left[name] = item
        elif type(step) is Drop:
            run.unreviewed_removed += step.unreviewed
        elif (result := _apply(step, item, run)) is not _GONE:
            left[name] = result
    return left


def _mask(step: Mask, value: object) -> str:
    """Characters are Unicode code points; only strings keep any."""
    if not step.shortest or not isinstance(value, str) or len(value) < step.shortest:
        return step.full
    return value[: step.keep_first] + step.filler + value[len(value) - step.keep_last :]


def _parse(data: bytes) -> object:
    try:
        document: object = orjson.loads(data)
    except orjson.JSONDecodeError:
        pass  # raised outside, because the parser's error holds the document
    else:
        return document
    raise Unredactable("the stored document is not JSON")


def _serialise(value: object) -> bytes:
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        pass
    raise Unredactable("the redacted document cannot be written as JSON")


def _canonical(value: object) -> bytes:
    """Members sorted, no blank space: equal values have equal bytes; `1`, `1.0` and `"1"` are three values."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:
        pass
    raise Unredactable("a value cannot be written as canonical JSON")
