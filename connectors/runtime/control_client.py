"""Talks to a running `entente connect run` through the socket in its state directory.

async with ControlClient(Path("entente-connect")) as control:
    await control.pause("crashes")
"""

from __future__ import annotations

import errno
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

import aiohttp
from pydantic import TypeAdapter, ValidationError

from connectors.runtime.directory import StateDirectoryRefused, socket_path
from connectors.runtime.model import Offset, Redriven
from connectors.runtime.status import ConnectorStatus

_T = TypeVar("_T")
_STATUS = TypeAdapter(ConnectorStatus)
_STATUSES = TypeAdapter(list[ConnectorStatus])
_OFFSETS = TypeAdapter(list[Offset])
_REDRIVEN = TypeAdapter(Redriven)
_ANSWER_S = 60.0
"""A stop takes up to half of it: tasks are given time to finish."""


class ControlFailed(Exception):
    """What was asked could not be done; the text is one line with the remedy.

    status: HTTP's: 400 malformed, 404 no such connector or task, 409 not in this state, 502 the connector could not do
    it. None: no process answered.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class ControlClient:
    """One connection to the process that runs in a state directory; use it as `async with`. Raises ControlFailed."""

    def __init__(self, state_directory: Path) -> None:
        try:
            self._path = socket_path(state_directory)
        except StateDirectoryRefused as refused:
            raise ControlFailed(str(refused)) from None
        self._directory = state_directory

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            "http://entente-connect",
            connector=aiohttp.UnixConnector(str(self._path)),
            timeout=aiohttp.ClientTimeout(total=_ANSWER_S),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def connectors(self) -> list[ConnectorStatus]:
        """All connectors, by name."""
        return await self._ask("GET", "/connectors", _STATUSES)

    async def status(self, name: str) -> ConnectorStatus:
        """One connector."""
        return await self._ask("GET", _path(name), _STATUS)

    async def pause(self, name: str) -> ConnectorStatus:
        """Take up nothing new, but keep its places; holds over restarts of the process, as all of these."""
        return await self._ask("POST", _path(name, "pause"), _STATUS)

    async def resume(self, name: str) -> ConnectorStatus:
        """Work again, after `pause` or `stop`."""
        return await self._ask("POST", _path(name, "resume"), _STATUS)

    async def stop(self, name: str) -> ConnectorStatus:
        """Finish what is begun and give up its places; returns when no task runs any more."""
        return await self._ask("POST", _path(name, "stop"), _STATUS)

    async def restart(self, name: str, task: int | None = None) -> ConnectorStatus:
        """End its tasks, or one of them, and start them anew; a failed one starts at once."""
        chosen = "" if task is None else f"?task={task}"
        return await self._ask("POST", _path(name, "restart") + chosen, _STATUS)

    async def offsets(self, name: str) -> list[Offset]:
        """How far it has come."""
        return await self._ask("GET", _path(name, "offsets"), _OFFSETS)

    async def alter_offsets(self, name: str, offsets: Sequence[Offset]) -> list[Offset]:
        """Go on from there (an `offset` of None: forget it); only while it is STOPPED. The offsets afterwards."""
        body = {"offsets": json.loads(_OFFSETS.dump_json(list(offsets)))}
        return await self._ask("PATCH", _path(name, "offsets"), _OFFSETS, body)

    async def redrive(self, name: str, most: int | None = None) -> AsyncGenerator[Redriven, None]:
        """Try its dead letters again; yields how far it is, and last what it did. Close it early to end it in order."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_ANSWER_S, sock_read=_ANSWER_S)
        path = _path(name, "redrive")
        try:
            async with self._session.post(path, json={"most": most}, timeout=timeout) as answer:
                await _check(answer)
                async for line in answer.content:
                    yield _redriven(line)
        except (aiohttp.ClientError, OSError) as error:
            raise self._unreachable(error) from None

    async def _ask(
        self, method: str, path: str, form: TypeAdapter[_T], body: Mapping[str, Any] | None = None
    ) -> _T:
        try:
            async with self._session.request(method, path, json=body) as answer:
                await _check(answer)
                return form.validate_json(await answer.read())
        except (aiohttp.ClientError, OSError) as error:
            raise self._unreachable(error) from None
        except ValidationError:
            raise ControlFailed(
                f"{self._path}: the answer is not of this version; use the same installation for both"
            ) from None

    def _unreachable(self, error: Exception) -> ControlFailed:
        if isinstance(error, TimeoutError):
            return ControlFailed(f"{self._path}: no answer within {_ANSWER_S:.0f} s; see the process's log")
        if isinstance(error, OSError) and error.errno == errno.EACCES:
            return ControlFailed(
                f"{self._path}: belongs to somebody else; run this as the user that runs connectors"
            )
        return ControlFailed(
            f"no connectors run in {self._directory}; start them with `entente connect run FILE --state DIR`, "
            "or name their directory with --state"
        )


def _path(*parts: str) -> str:
    return "/".join(("/connectors", *(quote(part, safe="") for part in parts)))


async def _check(answer: aiohttp.ClientResponse) -> None:
    if answer.status < 400:
        return
    try:
        message = str(json.loads(await answer.read())["error"])
    except (ValueError, KeyError, TypeError):
        message = f"the control socket answered {answer.status}"
    raise ControlFailed(message, answer.status)


def _redriven(line: bytes) -> Redriven:
    try:
        found = json.loads(line)
        if "error" in found:
            raise ControlFailed(str(found["error"]), 502)
        return _REDRIVEN.validate_python(found)
    except (ValueError, TypeError):
        raise ControlFailed("the control socket sent what is no progress of a redrive") from None
