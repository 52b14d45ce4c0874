"""One line for each fault of a configuration file: file, key path, what is wrong, what to do."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

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
    "bool_type": "true or false",
    "int_type": "an integer without quotes",
    "float_type": "a number without quotes",
    "list_type": "an array",
    "dict_type": "a table",
    "model_type": "a table",
}


def describe(model: type[BaseModel], error: ValidationError, path: Path) -> tuple[str, ...]:
    """The findings of `error`, in the file's order, without any value of the file."""
    details = error.errors(include_url=False, include_input=True)
    return tuple(dict.fromkeys(f"{path}: {_line(model, detail)}" for detail in details))


def _line(model: type[BaseModel], detail: ErrorDetails) -> str:
    location: tuple[int | str, ...] = tuple(detail["loc"])
    key = detail.get("ctx", {}).get("key")
    if key:
        location = (*location, *str(key).split("."))
    return f"{_path(location)}: {_fault(model, location, detail)}"


def _path(location: Sequence[int | str]) -> str:
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            # A key of TOML may hold anything; a finding stays one line.
            bare = part if _BARE_KEY.fullmatch(part) else ascii(part)
            text += f".{bare}" if text else bare
    return text or "(file)"


def _fault(model: type[BaseModel], location: tuple[int | str, ...], detail: ErrorDetails) -> str:
    kind = detail["type"]
    if kind == "extra_forbidden":
        return _unknown_key(model, location)
    if kind == "missing":
        return "is missing; add it"
    if kind in _WANTED:
        found = _TYPES.get(type(detail["input"]), "something else")
        return f"must be {_WANTED[kind]}, not {found}; correct it"
    message = detail["msg"]
    if kind == "refused":
        return message
    message = message.removeprefix("Input should ").removeprefix("be ")
    return (
        f"must be {message}; correct it"
        if detail["msg"].startswith("Input should be")
        else f"{message}; correct it"
    )


def _unknown_key(model: type[BaseModel], location: tuple[int | str, ...]) -> str:
    known = sorted(_keys_at(model, location[:-1]))
    near = get_close_matches(str(location[-1]), known, n=1)
    if near:
        return f"unknown key; did you mean '{near[0]}'?"
    return f"unknown key; remove it, or use one of: {', '.join(known)}"


def _keys_at(model: type[BaseModel], location: Sequence[int | str]) -> list[str]:
    annotation: Any = model
    for part in location:
        fields = _fields(annotation)
        annotation = fields[str(part)] if fields else _value_type(annotation)
    return list(_fields(annotation))


def _fields(annotation: Any) -> Mapping[str, Any]:
    """The fields of a model's annotation, also of `Model | None`; empty for anything else."""
    if get_origin(annotation) in (Union, UnionType):
        for member in get_args(annotation):
            if _fields(member):
                return _fields(member)
        return {}
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {name: field.annotation for name, field in annotation.model_fields.items()}
    return {}


def _value_type(annotation: Any) -> Any:
    arguments = get_args(annotation)
    return arguments[-1] if arguments else None
