"""Opening entries fast: every commitment checked on the bytes as they are stored, values parsed only where asked for."""

from __future__ import annotations

import re
from binascii import unhexlify
from hashlib import sha256
from typing import Any

import orjson

from broker.core.audit.forms import FORMS, PARTS, Form, Taken
from broker.core.audit.kinds import KINDS, ROOTS
from broker.core.audit.texts import Texts
from broker.core.ledger.canonical import canonical
from broker.core.ledger.leaf import VERSION, EntryInvalid, check, group_of, read_leaf, read_openings
from broker.core.merkle.hashing import HASH_BYTES

_CACHE_LIMIT = 4_096

_FORMS = {kind.encode(): form for kind, form in FORMS.items()}
_NEEDS_NO_ESCAPE = re.compile(r"[ !#-\[\]-~]*").fullmatch
_KIND, _PARTS = b'"kind":"', b'","parts":{'
_ROOT = len(_PARTS) + len(b'"handed_out":"')
_HEX = 2 * HASH_BYTES
_END = f',"v":{VERSION}}}'
# A time with more or less digits, before 2001 or after 2286, is read by `open_entry`.
_TIME = slice(-len(_END) - len("1767225600000"), -len(_END))


Place = tuple[str, int, int, int]
"""An entry's instance, index, epoch, and time in ms since 1970."""


class Cache(Texts[Any]):
    """Values by their canonical form, for parts that many entries share. What it returns is not to be changed."""

    def __init__(self) -> None:
        super().__init__(parse, _CACHE_LIMIT)


class Opened:
    """An entry whose place and commitments hold.

    leaf_hash, handed_out: 32 bytes; handed_out is the commitment of that name, b"" in an entry that has none.
    taken: what its form finds in its openings, None once erased. listed: the openings of its list part's items.
    """

    __slots__ = (
        "_cache",
        "_leaf",
        "epoch",
        "form",
        "handed_out",
        "index",
        "instance",
        "kind",
        "leaf_hash",
        "listed",
        "taken",
        "time_ms",
    )

    def __init__(self, place: Place, form: Form, leaf: bytes, handed_out: bytes, cache: Cache) -> None:
        self.instance, self.index, self.epoch, self.time_ms = place
        self.form = form
        self.kind = form.kind
        self.leaf_hash = sha256(b"\0" + leaf).digest()
        self.handed_out = handed_out
        self.taken: Taken | None = None
        self.listed: list[bytes] = []
        self._leaf = leaf
        self._cache = cache

    @property
    def commitments(self) -> dict[str, str]:
        """By name, hexadecimal."""
        found: dict[str, str] = orjson.loads(self._leaf)["parts"]
        return found

    def value(self, name: str) -> Any:
        """A part's value; of a list part the list of its items."""
        return parse(b"[%b]" % b",".join(self.items()) if name == self.form.list else self.content(name))

    def shared(self, name: str) -> Any:
        """As `value`, for a part that many entries share; not to be changed."""
        return self._cache.get(self.content(name))

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


class Opener:
    """Opens one instance's entries one after the other; those that follow the one before, as nearly all do, in no time.

    What such an entry's leaf must be is known from its openings, but for its kind, time and root. So it is made again and
    compared as a whole, rather than read. What differs in any way is opened by `open_entry`.
    """

    def __init__(self, instance: str, index: int, cache: Cache) -> None:
        self._instance = instance
        self._plain = _NEEDS_NO_ESCAPE(instance) is not None
        self._index = index
        self._epoch = 0
        self._cache = cache
        self._begin, self._middle = "", f',"instance":"{instance}","kind":"'

    def open(self, leaf: bytes, openings: bytes) -> Opened:
        """As `open_entry`, also for another instance's entry."""
        index = self._index
        self._index += 1
        entry = self._open_next(leaf, openings, index) if self._plain else None
        if entry is None:
            entry = open_entry(leaf, openings, self._cache)
            self._epoch, self._index = entry.epoch, entry.index + 1
            self._begin = f'{{"epoch":{entry.epoch},"index":'
        return entry

    def _open_next(self, leaf: bytes, openings: bytes, index: int) -> Opened | None:
        at = leaf.find(_KIND) + len(_KIND)
        end = leaf.find(b'"', at)
        form = _FORMS.get(leaf[at:end])
        found = None if form is None else form.take(openings)
        if form is None or found is None:
            return None
        taken, listed = found
        try:
            handed_out = unhexlify(leaf[end + _ROOT : end + _ROOT + _HEX]) if form.has_root else b""
            time_ms = int(leaf[_TIME])
        except ValueError:
            return None
        begin = f"{self._begin}{index}{self._middle}"
        if form.leaf(begin, handed_out.hex(), taken, listed, f'"}},"time_ms":{time_ms}{_END}') != leaf:
            return None
        entry = Opened((self._instance, index, self._epoch, time_ms), form, leaf, handed_out, self._cache)
        entry.taken, entry.listed = taken, listed
        return entry


def open_entry(leaf: bytes, openings: bytes, cache: Cache) -> Opened:
    """Raises EntryInvalid, with one line that says how, unless the leaf has its form and the openings are the leaf's.

    Whether it stands where it says is for the caller to ask.
    """
    try:
        commitments = parse(leaf)["parts"]
        read = read_leaf(leaf)
        expected = KINDS[read.kind]
    except (ValueError, KeyError, TypeError):
        raise EntryInvalid("the leaf is not readable, or of another version or kind") from None
    if read.parts.keys() != {group_of(name) for name in expected - ROOTS} | (expected & ROOTS):
        raise EntryInvalid("the leaf has not the commitments of its kind")
    if commitments != {name: root.hex() for name, root in read.parts.items()}:
        raise EntryInvalid("the leaf's commitments are not in the one form that they have")
    place, form = (read.instance, read.index, read.epoch, read.time_ms), FORMS[read.kind]
    entry = Opened(place, form, leaf, read.parts.get("handed_out", b""), cache)
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
