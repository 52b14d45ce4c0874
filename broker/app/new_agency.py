"""Adds the skeleton of a new agency to a rulebook's directory."""

from __future__ import annotations

from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from broker.app.new_directory import write_new
from broker.core.rulebook.cases import read_cases
from broker.core.rulebook.check import read_registry
from broker.core.rulebook.load import read_rulebook
from broker.core.rulebook.shapes import Name, Text
from broker.core.rulebook.skeleton import NotNew, Registration, skeleton

_NAME: TypeAdapter[str] = TypeAdapter(Name)
_TEXT: TypeAdapter[str] = TypeAdapter(Text)


def add_agency(directory: Path, given: Registration) -> tuple[str, ...]:
    """Write the agency's files into the rulebook at `directory`; their paths inside it.

    Raises NotNew if it cannot be added so, RulebookRefused if the rulebook cannot be read.
    """
    _refuse_unfit(given)
    revision = read_rulebook(directory)
    registry = read_registry(revision)
    made = skeleton(
        given,
        registry,
        read_cases(revision, registry),
        revision.files,
        time_dependent=revision.time_dependent,
    )
    for path, text in made.items():
        target = directory / path
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            write_new(target, text.encode(), private=False)
        except OSError as error:
            raise NotNew(f"{target}: cannot be written ({error.strerror}); correct that") from None
    return tuple(sorted(made))


def _refuse_unfit(given: Registration) -> None:
    try:
        _NAME.validate_python(given.name)
    except ValidationError:
        raise NotNew(f"'{given.name}' is no name of an agency; use a-z, 0-9 and '-'") from None
    for what, text in (("title", given.title), ("contact", given.contact)):
        try:
            _TEXT.validate_python(text)
        except ValidationError:
            raise NotNew(f"the {what} must be 1 to 500 characters on one line; correct it") from None
