"""What an entry says, in one sentence for people, from those of its parts that are shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from broker.cli.audit.markup import Markup, joined, value

if TYPE_CHECKING:
    from broker.model.ledger import JsonValue


def story(kind: str, parts: Mapping[str, JsonValue]) -> Markup | None:
    """The sentence; None where the parts that are shown do not make one."""
    tellers = {"delivery": _delivery, "publish": _publish, "stream_opened": _opened, "call_refused": _refused}
    teller = tellers.get(kind)
    return None if teller is None else teller(parts)


def _delivery(parts: Mapping[str, JsonValue]) -> Markup | None:
    match parts.get("class"), _items(parts, "receivers"), parts.get("count"):
        case (
            {"topic": str(topic), "agency": str(agency), "purpose": str(purpose)},
            [{"subject": str(subject), "subscription": str(subscription)}, *others],
            int(count),
        ):
            and_others = f" and {len(others)} more" if others else ""
            through = joined(", through the subscription ", value(subscription)) if subscription else ""
            return joined(
                f"{_records(count)} of the topic ",
                *(value(topic), " went to ", value(subject), and_others, " of ", value(agency), through),
                *(", for the purpose ", value(purpose), "."),
            )
    return None


def _publish(parts: Mapping[str, JsonValue]) -> Markup | None:
    match _items(parts, "records"), parts.get("who"):
        case [{"source": str(source), "id": str(record_id), "refused": str(reason)}], _:
            return joined(
                "The record ", value(record_id), " of ", value(source), " was refused: ", value(reason), "."
            )
        case [{"source": str(source), "id": str(record_id), "type": str(record_type)}], _:
            return joined(
                *(
                    "The record ",
                    value(record_id),
                    " of ",
                    value(source),
                    ", of the type ",
                    value(record_type),
                ),
                ", was stored.",
            )
        case [_, *_] as rows, {"agency": str(agency), "subject": str(subject)}:
            return joined(f"{_records(len(rows))} came from ", value(subject), " of ", value(agency), ".")
    return None


def _opened(parts: Mapping[str, JsonValue]) -> Markup | None:
    match parts.get("who"), parts.get("stream"):
        case (
            {"agency": str(agency), "subject": str(subject)},
            {"topic": str(topic), "purpose": str(purpose)},
        ):
            return joined(
                *(value(subject), " of ", value(agency), " began to receive the topic ", value(topic)),
                *(", for the purpose ", value(purpose), "."),
            )
    return None


def _refused(parts: Mapping[str, JsonValue]) -> Markup | None:
    match parts.get("who"), parts.get("call"):
        case {"agency": str(agency), "subject": str(subject)}, {"method": str(method), "reason": str(reason)}:
            return joined(
                *(value(subject), " of ", value(agency), " called ", value(method), " and was refused: "),
                *(value(reason), "."),
            )
    return None


def _items(parts: Mapping[str, JsonValue], name: str) -> list[JsonValue]:
    """A list part; of one item that is shown alone, that item."""
    value = parts.get(name)
    if isinstance(value, list):
        return value
    return [] if value is None else [value]


def _records(count: int) -> str:
    return "1 record" if count == 1 else f"{count} records"
