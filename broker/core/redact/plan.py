"""Redaction plans: a field map with one decision's treatments applied.

A plan is a tree of steps that follows the field map's trie, with everything that can be decided without the
document decided once: so applying it walks no deeper than the map's longest path, whatever the document is.

Rules, beyond those of the field map:

* Of a field's markings the strictest treatment counts; a marking that the decision leaves out is removed.
* `unreviewed` is kept or removed, nothing between: any other treatment would show that the field exists,
  and its name was not reviewed either.
* Where something below a visible place (kept, masked, pseudonym) is treated more strictly, that is done first.
  An object or array of which the plan may remove something and of which nothing is left vanishes, and so does
  one that was empty to begin with: the two cannot be told apart.
* A mask's filler has a fixed length for each treatment, so it shows neither the length nor the type of a value.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from broker.core.redact.fieldmap import UNREVIEWED, FieldMap, FieldNode
from broker.model.decision import REMOVE, Treatment, TreatmentKind, strictest

FILLER_CHARACTERS: Final = 8
"""The least number of `*` that stand for what a mask hides."""

HIDDEN_SHARE: Final = 3
"""A mask that keeps n characters does so in values of at least this many times n, so most is always hidden."""

MAX_KEPT_CHARACTERS: Final = 64
"""How many characters a mask may keep in all; it bounds the filler too."""


@dataclass(frozen=True, slots=True)
class Keep:
    """The value as it is, with all below it."""


@dataclass(frozen=True, slots=True)
class Drop:
    """The value vanishes; `unreviewed` when that is because no path names it."""

    unreviewed: bool = False


@dataclass(frozen=True, slots=True)
class Walk:
    """An object or array whose content is treated one by one.

    default: for what no path leads to: members, scalars, and containers of the kind that is not expected.
    names, elements: what paths lead to; None where no path leads through an object, or an array.
    removes: whether anything below may vanish; then a container of which nothing is left vanishes too.
    """

    default: Keep | Drop
    names: Mapping[str, Step] | None
    elements: Step | None
    removes: bool


@dataclass(frozen=True, slots=True)
class Mask:
    """A filler in place of the value; `below` comes first where something in it is removed.

    A string of at least `shortest` characters keeps its first and last ones on either side of `filler`; whatever
    else becomes `full`. `shortest` is 0 where nothing is ever kept.
    """

    markings: tuple[str, ...]
    keep_first: int
    keep_last: int
    shortest: int
    filler: str
    full: str
    below: Walk | None


@dataclass(frozen=True, slots=True)
class Pseudonym:
    """A keyed pseudonym of the value, after `below` was done to it.

    marking: names the key: the field's markings that ask for a pseudonym, sorted and joined with `+`.
    """

    markings: tuple[str, ...]
    marking: str
    below: Walk | None


Step = Keep | Drop | Walk | Mask | Pseudonym

KEEP_ALL: Final = Keep()


class Unredactable(Exception):
    """The record cannot be redacted as decided and is to be withheld whole; holds nothing of it."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What becomes of each place of a document.

    Plans are equal when they do the same, whatever they were compiled from; so one result serves all equal ones.
    `digest` (SHA-256 of the steps) is what is compared and hashed.
    """

    root: Step = field(compare=False, repr=False)
    digest: bytes

    @property
    def is_identity(self) -> bool:
        """Whether every document is kept whole: its stored bytes are what is delivered."""
        return isinstance(self.root, Keep)


def compile_plan(fieldmap: FieldMap, treatments: Mapping[str, Treatment]) -> Plan:
    """The plan for one field map and one decision's treatments.

    Raises Unredactable for a treatment that cannot be carried out: characters kept by anything but a mask, a
    negative number of them, or more than MAX_KEPT_CHARACTERS.
    """
    for marking, treatment in treatments.items():
        _check_treatment(marking, treatment)
    root = _Compiler(treatments).step(fieldmap.root)
    return Plan(root, hashlib.sha256(repr(_content(root)).encode("utf-8", "surrogatepass")).digest())


@dataclass(frozen=True, slots=True)
class _Compiler:
    treatments: Mapping[str, Treatment]

    def step(self, node: FieldNode) -> Step:
        if not node.is_named:
            return self._walk(node, self._unreviewed())
        treatment = strictest(self._treatment(marking) for marking in sorted(node.markings))
        if treatment.kind is TreatmentKind.REMOVE:
            return Drop()
        if treatment.kind is TreatmentKind.KEEP:
            return self._walk(node, KEEP_ALL)
        markings = self._asking_for(node.markings, treatment.kind)
        if treatment.kind is TreatmentKind.MASK:
            below = _only_walk(_hidden_below(self._walk(node, KEEP_ALL), masks=False))
            return _make_mask(markings, [self.treatments[marking] for marking in markings], below)
        below = _only_walk(_hidden_below(self._walk(node, KEEP_ALL), masks=True))
        return Pseudonym(markings, "+".join(markings), below)

    def _treatment(self, marking: str) -> Treatment:
        return self.treatments.get(marking, REMOVE)

    def _unreviewed(self) -> Keep | Drop:
        kept = self._treatment(UNREVIEWED).kind is TreatmentKind.KEEP
        return KEEP_ALL if kept else Drop(unreviewed=True)

    def _asking_for(self, markings: Iterable[str], kind: TreatmentKind) -> tuple[str, ...]:
        return tuple(sorted(marking for marking in markings if self._treatment(marking).kind is kind))

    def _walk(self, node: FieldNode, default: Keep | Drop) -> Step:
        names = {name: self.step(child) for name, child in node.names.items()}
        elements = self.step(node.elements) if node.elements else None
        return _make_walk(default, names, elements)


def _make_mask(markings: tuple[str, ...], masks: Sequence[Treatment], below: Walk | None) -> Mask:
    """All masks of one field as one: it keeps what each of them keeps, of values long enough for each of them.

    The fillers are so long that a masked string, masked again, stays what it is, and that all results of this
    mask are of one length.
    """
    first, last = min(mask.keep_first for mask in masks), min(mask.keep_last for mask in masks)
    kept = first + last
    shortest = max(HIDDEN_SHARE * (mask.keep_first + mask.keep_last) for mask in masks) if kept else 0
    filler = "*" * max(FILLER_CHARACTERS, shortest - kept)
    return Mask(markings, first, last, shortest, filler, filler + "*" * kept, below)


def _make_walk(default: Keep | Drop, names: Mapping[str, Step], elements: Step | None) -> Step:
    """The walk, or what it comes to where all is kept or all is dropped for the same reason."""
    steps: list[Step] = [default, *names.values()]
    if elements is not None:
        steps.append(elements)
    if all(step == default for step in steps):
        return default
    return Walk(default, names or None, elements, removes=any(_removes(step) for step in steps))


def _removes(step: Step) -> bool:
    match step:
        case Drop():
            return True
        case Walk():
            return step.removes
        case Mask() | Pseudonym():
            return step.below is not None and step.below.removes
    return False


def _hidden_below(step: Step, *, masks: bool) -> Step:
    """What stricter treatments do inside a value that is itself shown as a filler or a pseudonym.

    A filler shows only whether something is left; a pseudonym depends on the content, so full masks count too.
    """
    match step:
        case Walk():
            names = {name: _hidden_below(child, masks=masks) for name, child in (step.names or {}).items()}
            elements = _hidden_below(step.elements, masks=masks) if step.elements is not None else None
            return _make_walk(step.default, names, elements)
        case Mask() if masks:
            return step
        case Mask() | Pseudonym():
            return step.below or KEEP_ALL
    return step


def _content(step: Step | None) -> object:
    """The step as nested tuples in one order, the same for equal steps."""
    match step:
        case Walk():
            names = sorted((name, _content(child)) for name, child in (step.names or {}).items())
            return ("walk", _content(step.default), names, _content(step.elements))
        case Mask():
            return (
                "mask",
                step.markings,
                step.keep_first,
                step.keep_last,
                step.shortest,
                _content(step.below),
            )
        case Pseudonym():
            return ("pseudonym", step.markings, _content(step.below))
    return step


def _only_walk(step: Step) -> Walk | None:
    return step if isinstance(step, Walk) else None


def _check_treatment(marking: str, treatment: Treatment) -> None:
    kept = (treatment.keep_first, treatment.keep_last)
    if min(kept) < 0 or sum(kept) > MAX_KEPT_CHARACTERS:
        raise Unredactable(
            f"treatment of marking '{marking}': a mask keeps 0 to {MAX_KEPT_CHARACTERS} characters in all"
        )
    if any(kept) and treatment.kind is not TreatmentKind.MASK:
        raise Unredactable(f"treatment of marking '{marking}': only a mask keeps characters")
