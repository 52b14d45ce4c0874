"""What pydantic says of a data file, in the rulebook's words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from broker.core.rulebook.findings import Finding
from broker.model.data_file import Place

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

_PLAINER = {
    "missing": ("is missing", "add it"),
    "extra_forbidden": ("unknown key", "remove it, or correct its name"),
}


def faults_of(error: ValidationError) -> list[ErrorDetails]:
    """The single faults, without what the file holds."""
    return error.errors(include_url=False, include_context=False, include_input=False)


def what_and_remedy(fault: ErrorDetails) -> tuple[str, str]:
    """One fault in plain words."""
    return _PLAINER.get(fault["type"], (fault["msg"].removeprefix("Value error, "), "correct it"))


def shape_faults(path: str, error: ValidationError, lines: Mapping[Place, int]) -> Iterator[Finding]:
    """A finding for each place of the file that is not of its shape, with its line."""
    told: set[Place] = set()
    for fault in faults_of(error):
        place = _place(fault["loc"], lines)
        if place in told:  # one fault for each form that a value may have
            continue
        told.add(place)
        what, remedy = what_and_remedy(fault)
        missing = fault["loc"][-1:] if fault["type"] == "missing" else ()
        # The line says which element of a list it is.
        named = [str(part) for index, part in enumerate((*place, *missing)) if index or isinstance(part, str)]
        yield Finding(path, lines[place], f"{'.'.join(named)}: {what}" if named else what, remedy)


def _place(location: tuple[int | str, ...], lines: Mapping[Place, int]) -> Place:
    """The keys and indexes of a pydantic location; the rest of it names shapes."""
    place: Place = ()
    for part in location:
        if (*place, part) in lines:
            place = (*place, part)
    return place
