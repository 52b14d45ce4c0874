"""Makes an agency's record into a CloudEvent, as the table `map` says: the same record always into the same bytes.

Default deny: what the mapping names and the record does not have (nothing, null, an empty text, another type, several values
for one) refuses the record; it is never sent with less.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from connectors.mapping.events import Event, recognise
from connectors.mapping.paths import Documents, NotReadable, compile_path
from connectors.mapping.record import AgencyRecord, Unmappable, stable_id
from connectors.mapping.settings import LABELS, LISTS, STAMPED, MappingSettings, Value
from connectors.mapping.values import REFUSED, Finder, Reading, TimeFinder
from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent

TOMBSTONE = "TOMBSTONE"

_CORE = ("type", "source", "id")
_OWN_FIELDS = frozenset(_CORE) | LABELS | STAMPED
_JSON = "application/json"
_LATEST_MS = 253_402_300_799_999
"""What a protobuf Timestamp can say."""

_NO_HEADERS: Mapping[str, str] = {}


class Mapper:
    """A compiled mapping; holds no state."""

    def __init__(self, settings: MappingSettings) -> None:
        self._keep_events = settings.cloudevents == "keep"
        self._skip_tombstones = settings.tombstones == "skip"
        self._source = settings.source
        self._event_template, found = _split(settings)
        self._template = _with_content_type(self._event_template)
        self._core = {name: finder for name, finder in found.items() if name in _CORE}
        self._labels = {name: finder for name, finder in found.items() if name in LABELS}
        self._others = {name: finder for name, finder in found.items() if name not in {*_CORE, *LABELS}}
        self._set = frozenset(self._event_template.attributes) | frozenset(self._others)
        self._time = None if settings.time is None else TimeFinder(settings.time)
        finders: list[Finder] = [*found.values(), *((self._time,) if self._time is not None else ())]
        paths = [compile_path(finder.value.path) for finder in finders if finder.value.path is not None]
        self._documents = Documents(paths) if paths else None
        self._wanted = frozenset(finder.value.header for finder in finders if finder.value.header is not None)

    def map(self, record: AgencyRecord) -> CloudEvent | None:
        """The event to publish; None for a tombstone that the mapping says to skip. Raises Unmappable."""
        if record.value is None:
            if self._skip_tombstones:
                return None
            raise Unmappable(
                f'{TOMBSTONE}: the record has no value; set tombstones = "skip" to pass over such'
            )
        headers = self._headers(record) if record.headers else _NO_HEADERS
        found = recognise(headers, record.value) if self._keep_events and headers else None
        reading = Reading(record, headers, found)
        data = record.value if found is None else found.data
        if self._documents is not None:
            reading.document = self._read(data)
        event = CloudEvent()
        event.CopyFrom(self._template if found is None else self._event_template)
        try:
            self._fill(event, reading)
        except UnicodeEncodeError:
            raise Unmappable(f"{REFUSED}: a value holds half a character") from None
        if found is not None and found.text:
            event.text_data = data.decode()
        else:
            event.binary_data = data
        return event

    def source_findings(self, agency: str) -> list[str]:
        """What of the configured sources would be refused as somebody else's; for the start, when the agency is known."""
        prefix = f"//{agency}/"
        written = () if self._source is None else self._source.written()
        return [
            f"map.source: {text} does not begin with {prefix}; records name their own agency first"
            for text in written
            if not text.startswith(prefix)
        ]

    def _headers(self, record: AgencyRecord) -> Mapping[str, str]:
        """The headers that matter, as texts. Raises Unmappable for one of them that is there twice or is no text."""
        headers: dict[str, str] = {}
        for name, value in record.headers:
            if name not in self._wanted and not self._keep_events:
                continue
            is_content_type = name.lower() == "content-type"
            if name not in self._wanted and not is_content_type and not name.startswith("ce_"):
                continue
            text = _header_text(name, value)
            for known in {name, "content-type"} if is_content_type else {name}:
                if known in headers:
                    raise Unmappable(f"{REFUSED}: header {name} is there twice")
                headers[known] = text
        return headers

    def _read(self, data: bytes) -> object:
        try:
            return self._documents.read(data) if self._documents is not None else None
        except NotReadable as error:
            raise Unmappable(
                f"{REFUSED}: the record's data {error}, and the mapping has a path into it"
            ) from None

    def _fill(self, event: CloudEvent, reading: Reading) -> None:
        if reading.event is not None:
            self._keep(event, reading.event)
        for name, finder in self._core.items():
            setattr(event, name, finder.text(reading))
        if not event.id:
            event.id = stable_id(reading.record)
        if not event.type or not event.source:
            name = "source" if event.type else "type"
            raise Unmappable(f"{REFUSED}: {name}: neither the mapping nor the record has one")
        for name, finder in self._labels.items():
            words = finder.texts(reading, several=name in LISTS)
            event.attributes[name].ce_string = words[0] if len(words) == 1 else ",".join(words)
        for name, finder in self._others.items():
            value = finder.typed(reading) if finder.key.startswith("attributes.") else finder.text(reading)
            if value is not None:
                _set(event, name, value)
        self._stamp(event, reading)
        if reading.event is not None and "datacontenttype" not in event.attributes:
            event.attributes["datacontenttype"].ce_string = _JSON

    def _keep(self, event: CloudEvent, found: Event) -> None:
        """An event's own attributes, but for labels, what only the exchange sets, and what the mapping sets."""
        for name in _CORE:
            if name in found.attributes and not getattr(event, name):
                setattr(event, name, found.attributes[name])
        for name, value in found.attributes.items():
            if name not in _OWN_FIELDS and name not in self._set:
                _set(event, name, value)

    def _stamp(self, event: CloudEvent, reading: Reading) -> None:
        """When it happened: as configured, else as the event says, else the record's timestamp. Never now."""
        if self._time is not None:
            instant = self._time.instant(reading)
            if instant is not None:
                event.attributes["time"].ce_timestamp.CopyFrom(instant)
                return
        stamp_ms = reading.record.timestamp_ms
        if "time" not in event.attributes and stamp_ms is not None and stamp_ms >= 0:
            if stamp_ms > _LATEST_MS:
                raise Unmappable(f"{REFUSED}: time: the record's timestamp is beyond the year 9999")
            stamp = event.attributes["time"].ce_timestamp
            stamp.seconds, thousandths = divmod(stamp_ms, 1_000)
            stamp.nanos = thousandths * 1_000_000


def _split(settings: MappingSettings) -> tuple[CloudEvent, dict[str, Finder]]:
    """What is the same for every record, as an event to copy, and what is to be found in each."""
    values: dict[str, tuple[str, Value | None]] = {
        "type": ("type", settings.type),
        "source": ("source", settings.source),
        "id": ("id", settings.id),
        "subject": ("subject", settings.subject),
        "partitionkey": ("partition_key", settings.partition_key),
        "datacontenttype": ("content_type", settings.content_type),
        **{name: (f"labels.{name}", value) for name, value in settings.labels.items()},
        **{name: (f"attributes.{name}", value) for name, value in settings.attributes.items()},
    }
    template = CloudEvent(spec_version="1.0")
    found: dict[str, Finder] = {}
    for name, (key, value) in values.items():
        if value is None:
            continue
        if value.constant is None:
            found[name] = Finder(key, value)
        elif name in _CORE:
            setattr(template, name, value.constant)
        else:
            _set(
                template,
                name,
                value.constant if isinstance(value.constant, str) else ",".join(value.constant),
            )
    return template, found


def _with_content_type(template: CloudEvent) -> CloudEvent:
    """What a record that is no event begins with."""
    event = CloudEvent()
    event.CopyFrom(template)
    if "datacontenttype" not in event.attributes:
        event.attributes["datacontenttype"].ce_string = _JSON
    return event


def _set(event: CloudEvent, name: str, value: Any) -> None:
    """Set an attribute in the protobuf type of its value (CloudEvents protobuf format §2.2)."""
    slot = event.attributes[name]
    if isinstance(value, str):
        slot.ce_string = value
    elif isinstance(value, bool):
        slot.ce_boolean = value
    elif isinstance(value, int):
        slot.ce_integer = value
    elif isinstance(value, Timestamp):
        slot.ce_timestamp.CopyFrom(value)
    else:
        slot.ce_bytes = value


def _header_text(name: str, value: bytes | None) -> str:
    try:
        return "" if value is None else value.decode()
    except UnicodeDecodeError:
        raise Unmappable(f"{REFUSED}: header {name} is no UTF-8 text") from None
