"""Opening entries fast: every commitment checked on the bytes as they are stored, values parsed only where asked for."""

from __future__ import annotations

import re
from binascii import unhexlify
from hashlib import sha256
from typing import Any

import orjson

from broker.core.audit.forms import FORMS, PARTS, ROOT, Form, Taken
from broker.core.audit.kinds import KINDS, ROOTS
from broker.core.ledger.canonical import canonical
from broker.core.ledger.leaf import VERSION, EntryInvalid, check, group_of, read_leaf, read_openings

_CACHE_LIMIT = 4_096

# A leaf in its one form, but for its commitments and rare names of instances: what does not fit is read slowly.
_LEAF = re.compile(
    rb'\{"epoch":(0|[1-9]\d{0,17}),"index":(0|[1-9]\d{0,17}),"instance":"([ !#-\[\]-~]*)","kind":"([a-z_]+)",'
    rb'"parts":\{(.*)\},"time_ms":(0|[1-9]\d{0,17}),"v":%d\}' % VERSION,
    re.DOTALL,
).fullmatch
_FORMS = {kind.encode(): form for kind, form in FORMS.items()}


class Cache:
    """Values by their canonical form, for parts that many entries share. What it returns is not to be changed."""

    def __init__(self) -> None:
        self._values: dict[bytes, Any] = {}

    def value(self, content: bytes) -> Any:
        """As `parse`."""
        value = self._values.get(content)
        if value is None:
            if len(self._values) >= _CACHE_LIMIT:
                self._values.clear()
            value = self._values[content] = parse(content)
        return value


class Opened:
    """An entry whose place and commitments hold.

    taken: what its form finds in its openings, None once erased. listed: the openings of its list part's items.
    """

    __slots__ = (
        "_cache",
        "_parts",
        "epoch",
        "form",
        "index",
        "instance",
        "kind",
        "leaf_hash",
        "listed",
        "taken",
        "time_ms",
    )

    def __init__(
        self, place: tuple[str, int, int, int], form: Form, leaf_hash: bytes, parts: bytes, cache: Cache
    ) -> None:
        """place: instance, index, epoch, time. parts: the members of the leaf's `parts`, in canonical form."""
        self.instance, self.index, self.epoch, self.time_ms = place
        self.form = form
        self.kind = form.kind
        self.leaf_hash = leaf_hash
        self.taken: Taken | None = None
        self.listed: list[bytes] = []
        self._parts = parts
        self._cache = cache

    @property
    def commitments(self) -> dict[str, str]:
        """By name, hexadecimal."""
        found: dict[str, str] = orjson.loads(b"{%b}" % self._parts)
        return found

    @property
    def handed_out(self) -> bytes:
        """The commitment of that name, which a delivery has. Raises ValueError if it is no hash."""
        return unhexlify(self._parts[ROOT])

    def value(self, name: str) -> Any:
        """A part's value; of a list part the list of its items."""
        return parse(b"[%b]" % b",".join(self.items()) if name == self.form.list else self.content(name))

    def shared(self, name: str) -> Any:
        """As `value`, for a part that many entries share; not to be changed."""
        return self._cache.value(self.content(name))

    def content(self, name: str) -> bytes:
        """A part that is no list, in canonical form; raises EntryInvalid for an entry without it."""
        at = self.form.at.get(name)
        if self.taken is None or at is None:
            raise EntryInvalid(f"the part '{name}' is not there")
        content: bytes = self.taken[at]
        return content

    def items(self) -> list[bytes]:
        """The items of the list part, in canonical form."""
        begin = len(self.form.list or "") + 4  # after `["name",`
        return [opening[begin:-1] for opening in self.listed]


def parse(content: bytes) -> Any:
    """A value; raises ValueError for JSON with blanks, doubled or unsorted names: two readers could read it differently."""
    value = orjson.loads(content)
    if orjson.dumps(value, option=orjson.OPT_SORT_KEYS) != content and canonical(value) != content:
        raise EntryInvalid("a part is not in the one form that JSON has here")
    return value


def open_entry(leaf: bytes, openings: bytes, cache: Cache) -> Opened:
    """Raises EntryInvalid, with one line that says how, unless the leaf has its form and the openings are the leaf's.

    Whether it stands where it says is for the caller to ask.
    """
    found = _LEAF(leaf)
    if found is not None:
        epoch, index, instance, kind, parts, time_ms = found.groups()
        form = _FORMS.get(kind)
        opened = form.take(openings) if form is not None else None
        if form is not None and opened is not None and form.is_committed(*opened, parts):
            place = (instance.decode(), int(index), int(epoch), int(time_ms))
            entry = Opened(place, form, sha256(b"\0" + leaf).digest(), parts, cache)
            entry.taken, entry.listed = opened
            return entry
    return _open_slowly(leaf, openings, cache)


def _open_slowly(leaf: bytes, openings: bytes, cache: Cache) -> Opened:
    """As `open_entry`, which opens quickly only what this would open."""
    try:
        parts = orjson.dumps(parse(leaf)["parts"], option=orjson.OPT_SORT_KEYS)[1:-1]
        read = read_leaf(leaf)
        expected = KINDS[read.kind]
    except (ValueError, KeyError, TypeError):
        raise EntryInvalid("the leaf is not readable, or of another version or kind") from None
    if read.parts.keys() != {group_of(name) for name in expected - ROOTS} | (expected & ROOTS):
        raise EntryInvalid("the leaf has not the commitments of its kind")
    place, form = (read.instance, read.index, read.epoch, read.time_ms), FORMS[read.kind]
    entry = Opened(place, form, sha256(b"\0" + leaf).digest(), parts, cache)
    if openings:
        shown = read_openings(openings)
        if [*shown.parts] != PARTS[read.kind]:
            raise EntryInvalid("the openings have not the parts of the entry's kind")
        check(read, shown)
        opened = form.take(openings)
        if opened is None:
            raise EntryInvalid("the openings have another form")
        entry.taken, entry.listed = opened
    return entry
