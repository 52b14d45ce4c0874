"""The control socket of a running process: HTTP with JSON, for whoever may enter the state directory.

    GET   /connectors                      all, by name
    GET   /connectors/NAME                 one
    POST  /connectors/NAME/pause           also resume, stop, restart (?task=N)
    GET   /connectors/NAME/offsets
    PATCH /connectors/NAME/offsets         {"offsets": [{"partition": {…}, "offset": {…} | null}]}, only while STOPPED
    POST  /connectors/NAME/redrive         {"most": N | null}; answers with lines of JSON, the result last

An error is {"error": "one line"}; its HTTP status is as of ControlFailed.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web
from pydantic import TypeAdapter, ValidationError

from connectors.runtime.causes import one_line, out_of_memory, trail, unexpected
from connectors.runtime.connector import CommandRefused, SupervisedConnector
from connectors.runtime.model import Offset, Redriven
from connectors.runtime.status import ConnectorStatus
from connectors.runtime.supervisor import Runtime

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Command = Callable[[SupervisedConnector, web.Request], Awaitable[None]]

_STATUS = TypeAdapter(ConnectorStatus)
_STATUSES = TypeAdapter(list[ConnectorStatus])
_OFFSETS = TypeAdapter(list[Offset])
_REDRIVEN = TypeAdapter(Redriven)
_MOST_BODY_BYTES = 8 * 1024 * 1024
_LEAVE_S = 2.0


@asynccontextmanager
async def listening(runtime: Runtime, path: Path) -> AsyncIterator[None]:
    """Answer on that socket inside the block. Raises OSError."""
    runner = web.AppRunner(_application(runtime), access_log=None, shutdown_timeout=_LEAVE_S)
    await runner.setup()
    try:
        await web.UnixSite(runner, str(path)).start()
        _make_private(path)
        yield
    finally:
        await runner.cleanup()
        _remove(path)


def _make_private(path: Path) -> None:
    """Nobody else could connect before either: the directory is its owner's alone."""
    path.chmod(0o600)


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


def _application(runtime: Runtime) -> web.Application:
    control = _Control(runtime)
    application = web.Application(middlewares=[control.errors], client_max_size=_MOST_BODY_BYTES)
    one = "/connectors/{name}"
    application.router.add_get("/connectors", control.all)
    application.router.add_get(one, control.one)
    for word, command in _COMMANDS.items():
        application.router.add_post(f"{one}/{word}", control.commanding(command))
    application.router.add_get(f"{one}/offsets", control.offsets)
    application.router.add_patch(f"{one}/offsets", control.alter)
    application.router.add_post(f"{one}/redrive", control.redrive)
    return application


async def _restart(connector: SupervisedConnector, request: web.Request) -> None:
    task = request.query.get("task")
    if task is not None and not (task.isascii() and task.isdecimal() and len(task) <= 9):
        raise CommandRefused("task must be a number, counted from 0", 400)
    await connector.restart(None if task is None else int(task))


_COMMANDS: dict[str, Command] = {
    "pause": lambda connector, _: connector.pause(),
    "resume": lambda connector, _: connector.resume(),
    "stop": lambda connector, _: connector.stop(),
    "restart": _restart,
}


class _Control:
    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    @web.middleware
    async def errors(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Every error is one line of JSON."""
        try:
            return await handler(request)
        except CommandRefused as refused:
            return _error(str(refused), refused.status)
        except web.HTTPException as error:
            return _error(one_line(f"{request.method} {request.path}: {error.reason}"), error.status)
        except ConnectionError:
            raise
        except Exception as error:  # noqa: BLE001 - its message may quote anything
            if out_of_memory(error):
                self._runtime.die(error)
            log.error("control socket: %s", trail(error))
            return _error(unexpected(error), 500)

    async def all(self, _: web.Request) -> web.Response:
        """GET /connectors."""
        return _json(_STATUSES.dump_json(self._runtime.statuses()))

    async def one(self, request: web.Request) -> web.Response:
        """GET /connectors/NAME."""
        return _json(_STATUS.dump_json(self._named(request).status()))

    def commanding(self, command: Command) -> Handler:
        """POST of a command: the status afterwards."""

        async def handle(request: web.Request) -> web.Response:
            connector = self._named(request)
            await command(connector, request)
            return _json(_STATUS.dump_json(connector.status()))

        return handle

    async def offsets(self, request: web.Request) -> web.Response:
        """GET …/offsets."""
        return _json(_OFFSETS.dump_json(await self._named(request).offsets()))

    async def alter(self, request: web.Request) -> web.Response:
        """PATCH …/offsets."""
        connector = self._named(request)
        try:
            wanted = _OFFSETS.validate_python((await _body(request))["offsets"])
        except (KeyError, ValidationError):
            raise CommandRefused(
                'send {"offsets": [{"partition": {…}, "offset": {…} or null}]}, as GET shows them', 400
            ) from None
        return _json(_OFFSETS.dump_json(await connector.alter_offsets(wanted)))

    async def redrive(self, request: web.Request) -> web.StreamResponse:
        """POST …/redrive: lines until it is done, or until its caller leaves."""
        connector = self._named(request)
        most = (await _body(request)).get("most")
        if most is not None and (type(most) is not int or most < 1):
            raise CommandRefused("most must be a number from 1, or null for all", 400)
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        async with aclosing(connector.redrive(most)) as told:
            try:
                async for redriven in told:
                    if not response.prepared:
                        await response.prepare(request)
                    await response.write(_REDRIVEN.dump_json(redriven) + b"\n")
            except CommandRefused as refused:
                if not response.prepared:
                    raise
                await response.write(json.dumps({"error": str(refused)}).encode() + b"\n")
        await response.write_eof()
        return response

    def _named(self, request: web.Request) -> SupervisedConnector:
        return self._runtime.connector(request.match_info["name"])


async def _body(request: web.Request) -> dict[str, Any]:
    try:
        found = json.loads(await request.read() or b"{}")
    except (ValueError, RecursionError):
        raise CommandRefused("the body is no JSON", 400) from None
    if not isinstance(found, dict):
        raise CommandRefused("the body is no JSON object", 400)
    return found


def _json(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json")


def _error(message: str, status: int) -> web.Response:
    return web.json_response({"error": message}, status=status)
