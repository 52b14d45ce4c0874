"""What the schema of a module's input says is always there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from broker.core.rulebook.syntax import Node, head, nodes, static_path

_DEFINITIONS = "#/definitions/"


class RequiredInput:
    """The schema that a module's annotations give for its `input`; without one, nothing is always there."""

    def __init__(self, module: Node, files: Mapping[str, bytes]) -> None:
        self._schema = _schema_of(module, files)

    def has(self, terms: Sequence[Node]) -> bool:
        """Whether this path below `input` is there in each input that the schema allows."""
        path = static_path(terms)
        at: Any = self._schema
        for key in path or ():
            at = self._resolved(at)
            if key not in at.get("required", ()):
                return False
            at = at.get("properties", {}).get(key)
        return path is not None and self._schema != {}

    def _resolved(self, schema: object) -> Mapping[str, Any]:
        reference = schema.get("$ref") if isinstance(schema, Mapping) else None
        if isinstance(reference, str) and reference.startswith(_DEFINITIONS):
            schema = self._schema.get("definitions", {}).get(reference.removeprefix(_DEFINITIONS))
        return schema if isinstance(schema, Mapping) else {}


def _schema_of(module: Node, files: Mapping[str, bytes]) -> Mapping[str, Any]:
    for annotation in nodes(module.get("annotations")):
        for given in nodes(annotation.get("schemas")):
            names = static_path(nodes(given.get("schema"))[1:])
            if annotation.get("scope") == "package" and head(nodes(given.get("path"))) == "input" and names:
                try:
                    schema = orjson.loads(files.get(f"schemas/{names[0]}.json", b"{}"))
                except orjson.JSONDecodeError:  # told by the compiler
                    return {}
                return schema if isinstance(schema, Mapping) else {}
    return {}
