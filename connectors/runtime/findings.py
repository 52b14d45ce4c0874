"""One line for each fault of a configuration file: file, key path, what is wrong, what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

Location = tuple[int | str, ...]

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_TYPES: Mapping[type, str] = {
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a float",
    list: "an array",
    dict: "a table",
}
_WANTED: Mapping[str, str] = {
    "string_type": "a string in quotes",
    "path_type": "a path in quotes",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "int_type": "an integer without quotes",
    "int_parsing": "an integer without quotes",
    "float_type": "a number without quotes",
    "float_parsing": "a number without quotes",
    "list_type": "an array",
    "tuple_type": "an array",
    "dict_type": "a table",
    "model_type": "a table",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """location: the key, from the model on. what: what is wrong and what to do, without any value of the file."""

    location: Location
    what: str


def describe(model: type[BaseModel], error: ValidationError, path: Path) -> tuple[str, ...]:
    """The findings of `error`, in the file's order, without any value of the file."""
    found = faults(model, error)
    return tuple(dict.fromkeys(f"{path}: {key_path(fault.location)}: {fault.what}" for fault in found))


def key_path(location: Sequence[int | str]) -> str:
    """The key as TOML writes it, on one line."""
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            # A key of TOML may hold anything; a finding stays one line.
            bare = part if _BARE_KEY.fullmatch(part) else ascii(part)
            text += f".{bare}" if text else bare
    return text or "(file)"


def faults(model: type[BaseModel], error: ValidationError) -> Iterator[Fault]:
    """What is wrong, in the file's order. Of a value that may take several forms, the form that it comes nearest to."""
    alternatives: dict[Location, dict[str, list[_Place]]] = {}
    places = [_Place(model, detail) for detail in error.errors(include_url=False, include_input=True)]
    for place in places:
        if place.union is not None:
            forms = alternatives.setdefault(place.union, {})
            forms.setdefault(place.form, []).append(place)
    for place in places:
        if place.union is None:
            yield Fault(place.location, _fault(place))
        elif forms := alternatives.pop(place.union, {}):
            yield from _of_forms(forms)


class _Place:
    """Where an error is: the key as the file writes it, the annotation of what holds it, and of which form it is."""

    def __init__(self, model: type[BaseModel], detail: ErrorDetails) -> None:
        self.detail = detail
        self.union: Location | None = None
        self.form = ""
        self.known: list[str] = []
        annotation: Any = model
        location: list[int | str] = []
        for part in detail["loc"]:
            forms = _forms(annotation)
            if len(forms) > 1:  # pydantic puts the form's name into the location, which is no key
                if self.union is None:
                    self.union, self.form = tuple(location), str(part)
                    self.known = [name for form in forms for name in _fields(form)]
                annotation = next((each for each in forms if getattr(each, "__name__", None) == part), None)
                continue
            fields = _fields(annotation)
            if self.union is None or len(location) > len(self.union):
                self.known = list(fields)
            location.append(part)
            annotation = fields.get(str(part)) if fields else _value_type(annotation)
        key = detail.get("ctx", {}).get("key")
        self.location: Location = (*location, *(str(key).split(".") if key else ()))

    @property
    def is_wrong_form(self) -> bool:
        """Whether the value is not of this form at all, rather than a faulty one of it."""
        return self.location == self.union and self.detail["type"] in _WANTED


def _of_forms(forms: Mapping[str, list[_Place]]) -> Iterator[Fault]:
    near = [places for places in forms.values() if not any(place.is_wrong_form for place in places)]
    if near:
        for place in min(near, key=len):
            yield Fault(place.location, _fault(place))
        return
    places = [place for each in forms.values() for place in each]
    wanted = " or ".join(
        dict.fromkeys(_WANTED[place.detail["type"]] for place in places if place.is_wrong_form)
    )
    yield Fault(places[0].location, _wrong_type(wanted, places[0].detail))


def _fault(place: _Place) -> str:
    detail = place.detail
    kind, message = detail["type"], detail["msg"]
    if kind == "extra_forbidden":
        return _unknown_key(str(place.location[-1]), place.known)
    if kind == "missing":
        return "is missing; add it"
    if kind in _WANTED:
        return _wrong_type(_WANTED[kind], detail)
    if kind == "refused":
        return message
    if kind == "value_error":
        return message.removeprefix("Value error, ")
    if message.startswith("Input should"):
        return f"must be {message.removeprefix('Input should ').removeprefix('be ')}; correct it"
    return f"{message}; correct it"


def _wrong_type(wanted: str, detail: ErrorDetails) -> str:
    found = _TYPES.get(type(detail["input"]), "something else")
    return f"must be {wanted}, not {found}; correct it"


def _unknown_key(name: str, known: Sequence[str]) -> str:
    near = get_close_matches(name, known, n=1)
    if near:
        return f"unknown key; did you mean '{near[0]}'?"
    return f"unknown key; remove it, or use one of: {', '.join(sorted(set(known)))}"


def _forms(annotation: Any) -> list[Any]:
    """What a value may be instead of None."""
    annotation = _plain(annotation)
    if get_origin(annotation) in (Union, UnionType):
        return [_plain(each) for each in get_args(annotation) if each is not type(None)]
    return [annotation]


def _plain(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _fields(annotation: Any) -> Mapping[str, Any]:
    """The fields of a model's annotation, also of `Model | None`; empty for anything else."""
    for form in _forms(annotation):
        if isinstance(form, type) and issubclass(form, BaseModel):
            return {field.alias or name: field.annotation for name, field in form.model_fields.items()}
    return {}


def _value_type(annotation: Any) -> Any:
    """Of what an array or a table of any keys holds."""
    for form in _forms(annotation):
        if arguments := [each for each in get_args(form) if each is not Ellipsis]:
            return arguments[-1]
    return None
