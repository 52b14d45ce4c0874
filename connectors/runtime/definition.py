"""One connector as configuration files describe it, before anything of it runs."""

from __future__ import annotations

import re
from dataclasses import dataclass

from connectors.runtime.plugin import Plugin
from connectors.runtime.settings import ConnectorSettings

NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
"""What a connector's name must match as a whole: it becomes a directory's name, a label and a part of addresses."""


@dataclass(frozen=True, slots=True)
class ConnectorDefinition:
    """What the runtime needs to make it; `settings` are of the type that the plugin asks for."""

    name: str
    plugin: Plugin
    settings: ConnectorSettings

    def __post_init__(self) -> None:
        """Raises ValueError for a name that could not stand everywhere that names stand."""
        if NAME_PATTERN.fullmatch(self.name) is None:
            raise ValueError(
                "a connector's name is 1 to 63 letters, digits, - and _, with a letter or digit first"
            )
