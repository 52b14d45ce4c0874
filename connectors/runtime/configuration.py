"""Configuration files: any number of connectors in any number of files, checked whole before anything starts.

A finding is one line: file, key, what is wrong, what to do. It never quotes a value: a misplaced one may be a secret.
"""

from __future__ import annotations

import stat
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from connectors.runtime.apart import clashes
from connectors.runtime.definition import ConnectorDefinition
from connectors.runtime.findings import Location, faults, key_path
from connectors.runtime.plugin import ENTRY_POINTS, Plugin
from connectors.runtime.settings import ConfigurationRefused, ConnectorSettings, Secret, read_private_file

FILE_BYTES = 1024 * 1024
"""The largest configuration file that is read."""

_SECTIONS = ("connectors", "exchange")
_TOKENS = frozenset({"token_file", "token_env"})
_MODE_REMEDY = "run 'chmod 600' on it, and replace the token"

Table = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Configured:
    """A connector and the file that describes it."""

    definition: ConnectorDefinition
    file: Path

    def place(self, finding: str) -> str:
        """A finding about it as a line that says where it is configured."""
        return f"{self.file}: {key_path(('connectors', self.definition.name))}: {finding}"


class _Refused(Exception):
    """Ends the reading of one connector, or of one file."""

    def __init__(self, *findings: str) -> None:
        super().__init__()
        self.findings = findings


def plugins() -> Mapping[str, EntryPoint]:
    """The installed ones by name."""
    return {found.name: found for found in entry_points(group=ENTRY_POINTS)}


def load_plugin(name: str) -> Plugin:
    """The plugin of that name. Raises ConfigurationRefused."""
    known = plugins()
    if name not in known:
        near = get_close_matches(name, known, n=1)
        remedy = (
            f"did you mean '{near[0]}'?"
            if near
            else f"use one of: {', '.join(sorted(known)) or 'none is installed'}"
        )
        raise ConfigurationRefused((f"no plugin of that name is installed; {remedy}",))
    try:
        plugin: Plugin = known[name].load()
    except (ImportError, AttributeError) as error:
        missing = getattr(error, "name", None) or known[name].value
        raise ConfigurationRefused(
            (
                f"'{name}' cannot be loaded for want of {missing}; install it, for example as entente-client[connect,kafka]",
            )
        ) from None
    return plugin


def read_configuration(files: Sequence[Path]) -> tuple[Configured, ...]:
    """All connectors of the files, in their order. Raises ConfigurationRefused with every finding."""
    findings: list[str] = []
    found: dict[str, Configured] = {}
    for file in files:
        try:
            document = _read(file)
            tables = _tables(file, document)
        except _Refused as refused:
            findings += refused.findings
            continue
        for name, table in tables.items():
            try:
                _check_unique(file, name, found.get(name.lower()))
                found[name.lower()] = _Reader(file, name, table, document.get("exchange")).configured()
            except _Refused as refused:
                findings += refused.findings
    findings += _clashes(tuple(found.values()))
    if findings:
        raise ConfigurationRefused(tuple(dict.fromkeys(findings)))
    return tuple(found.values())


def _clashes(configured: Sequence[Configured]) -> Iterator[str]:
    for clash in clashes([each.definition for each in configured]):
        first, second = configured[clash.first], configured[clash.second]
        keys = [key_path(("connectors", each.definition.name, clash.key)) for each in (first, second)]
        yield f"{second.file}: {keys[1]}: is the same as {keys[0]} in {first.file}, {clash.what}"


def _check_unique(file: Path, name: str, other: Configured | None) -> None:
    """Capitals do not tell names apart: subscriptions have none, nor do folders on every system."""
    if other is not None:
        same = other.definition.name == name
        what = "is" if same else f"differs by capitals only from '{other.definition.name}'"
        raise _Refused(
            f"{file}: {key_path(('connectors', name))}: {what} in {other.file}{' too' * same}; rename one"
        )


def _read(path: Path) -> Table:
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES + 1)
    except FileNotFoundError:
        raise _Refused(f"{path}: no such file; begin one with 'entente connect new'") from None
    except OSError as error:
        raise _Refused(f"{path}: cannot be read: {error.strerror}; correct the path or its mode") from None
    if len(content) > FILE_BYTES:
        raise _Refused(f"{path}: larger than {FILE_BYTES} bytes; this is no configuration file")
    try:
        return tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        what = str(error) if isinstance(error, tomllib.TOMLDecodeError) else type(error).__name__
        raise _Refused(f"{path}: not TOML: {what}; correct the syntax") from None


def _tables(file: Path, document: Table) -> Mapping[str, Table]:
    """The connectors' tables by name."""
    findings = [f"{file}: {key_path((key,))}: {_unknown(key)}" for key in document if key not in _SECTIONS]
    findings += [
        f"{file}: {key}: must be a table; correct it"
        for key in _SECTIONS
        if not isinstance(document.get(key, {}), dict)
    ]
    if findings:
        raise _Refused(*findings)
    tables: Mapping[str, Table] = document.get("connectors", {})
    if not tables:
        raise _Refused(
            f"{file}: connectors: is missing; add a table [connectors.NAME], or see 'entente connect new'"
        )
    return tables


def _unknown(key: str) -> str:
    near = get_close_matches(key, _SECTIONS, n=1)
    return (
        f"unknown key; did you mean '{near[0]}'?"
        if near
        else f"unknown key; use one of: {', '.join(_SECTIONS)}"
    )


class _Reader:
    """Makes one connector's table a definition."""

    def __init__(self, file: Path, name: str, table: object, exchange: Table | None) -> None:
        self._file = file
        self._name = name
        self._table = table
        self._exchange = exchange

    def configured(self) -> Configured:
        """The connector. Raises _Refused."""
        if not isinstance(self._table, dict):
            raise self._refused((), "must be a table; write it as [connectors.NAME]")
        plugin = self._plugin(self._table)
        try:
            settings = plugin.settings.model_validate(
                self._complete(self._table), context={"directory": self._file.absolute().parent}
            )
        except ValidationError as error:
            raise _Refused(
                *(f"{self._place(fault.location)}: {fault.what}" for fault in faults(plugin.settings, error))
            ) from None
        findings = tuple(f"{self._place(where)}: {what}" for where, what in _faults_of_files(settings, ()))
        if findings:
            raise _Refused(*findings)
        return Configured(self._made(plugin, settings), self._file)

    def _made(self, plugin: Plugin, settings: ConnectorSettings) -> ConnectorDefinition:
        try:
            definition = ConnectorDefinition(self._name, plugin, settings)
        except ValueError as error:
            raise self._refused((), f"{error}; rename it") from None
        try:
            plugin.make(
                self._name, settings, self._file.parent
            )  # connects to nothing; some faults only show here
        except ConfigurationRefused as refused:
            raise _Refused(*(f"{self._place(())}: {finding}" for finding in refused.findings)) from None
        return definition

    def _plugin(self, table: Table) -> Plugin:
        name = table.get("plugin")
        if not isinstance(name, str):
            wrong = "is missing; add it" if name is None else "must be a string in quotes"
            raise self._refused(("plugin",), f"{wrong}: one of {', '.join(sorted(plugins()))}")
        try:
            return load_plugin(name)
        except ConfigurationRefused as refused:
            raise self._refused(("plugin",), refused.findings[0]) from None

    def _complete(self, table: Table) -> Table:
        """With the file's exchange. A table with an endpoint of its own inherits nothing: no token goes elsewhere."""
        own = table.get("exchange", {})
        if self._exchange is None or not isinstance(own, dict) or "endpoint" in own:
            return table
        replaced = own.keys() | (_TOKENS if own.keys() & _TOKENS else set())
        inherited = {key: value for key, value in self._exchange.items() if key not in replaced}
        return {**table, "exchange": inherited | own}

    def _place(self, location: Location) -> str:
        own = self._table.get("exchange") if isinstance(self._table, dict) else None
        if location[:1] == ("exchange",):
            inherited = (
                isinstance(own, dict) and "endpoint" not in own and location[1:2] and location[1] not in own
            )
            if self._exchange is not None and (own is None or (inherited and location[1] in self._exchange)):
                return f"{self._file}: {key_path(location)}"
            if own is None:  # neither here nor for the whole file
                return f"{self._file}: exchange"
        return f"{self._file}: {key_path(('connectors', self._name, *location))}"

    def _refused(self, location: Location, what: str) -> _Refused:
        return _Refused(f"{self._place(location)}: {what}")


def _faults_of_files(settings: BaseModel, location: Location) -> Iterator[tuple[Location, str]]:
    """What is wrong with the files and variables that the settings name."""
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        where = (*location, name)
        if isinstance(value, Secret):
            yield from _faults_of(where, value.read)
        elif isinstance(value, BaseModel):
            yield from _faults_of_files(value, where)
        elif name == "token_env" and isinstance(value, str):
            yield from _faults_of(where, Secret(env=value).read)
        elif isinstance(value, Path) and name in _CHECKS:
            yield from _faults_of(where, partial(_CHECKS[name], value))


def _faults_of(where: Location, check: Callable[[], object]) -> Iterator[tuple[Location, str]]:
    try:
        check()
    except ConfigurationRefused as refused:
        yield from ((where, finding) for finding in refused.findings)


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise ConfigurationRefused((f"{path}: no such file; correct the path",))


def _check_token(path: Path) -> None:
    """A group may read it: whatever renews it may be another user."""
    if not path.is_file():  # what stands there may be the token itself
        raise ConfigurationRefused(("no such file; name the one that holds the token",))
    if stat.S_IMODE(path.stat().st_mode) & 0o007:
        raise ConfigurationRefused((f"{path}: every user may read or write it; {_MODE_REMEDY}",))


_CHECKS: Mapping[str, Callable[[Path], object]] = {
    "ca_file": _check_file,
    "certificate": _check_file,
    "key": read_private_file,
    "token_file": _check_token,
}
"""By the names of keys, which mean the same in every table."""
