"""The JSON form of the control log's entries (docs/control.md)."""

from __future__ import annotations

import orjson

from broker.model.control import Beat, ControlEvent

LARGEST_BYTES = 512 * 1024


def encode_event(event: ControlEvent) -> bytes:
    """Raises ValueError for one that is too large."""
    content = {
        "kind": event.kind,
        "time_ms": event.time_ms,
        "instance": event.instance,
        "body": dict(event.body),
    }
    encoded = orjson.dumps(content)
    if len(encoded) > LARGEST_BYTES:
        raise ValueError(f"a control event is larger than {LARGEST_BYTES} bytes")
    return encoded


def encode_beat(beat: Beat) -> bytes:
    """An instance's sign of life."""
    content = {"instance": beat.instance, "run": beat.run, "number": beat.number, "applied": beat.applied}
    return orjson.dumps({"beat": content})


def decode(value: bytes) -> ControlEvent | Beat:
    """Raises ValueError for anything else."""
    try:
        content = orjson.loads(value)
        if "beat" in content:
            beat = content["beat"]
            return Beat(
                _text(beat["instance"]), _text(beat["run"]), _number(beat["number"]), _number(beat["applied"])
            )
        body = content["body"]
        if not isinstance(body, dict):
            raise ValueError("a body is no object")
        return ControlEvent(
            _text(content["kind"]), _number(content["time_ms"]), _text(content["instance"]), body
        )
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError("it is no entry of a control log") from error


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("a name is no string")
    return value


def _number(value: object) -> int:
    if type(value) is not int:
        raise ValueError("a number is no integer")
    return value
