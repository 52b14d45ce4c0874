"""Opening entries fast: every commitment checked on the bytes as they are stored, values parsed only where asked for."""

from __future__ import annotations

import re
from binascii import a2b_base64, b2a_base64, unhexlify
from collections.abc import Callable
from hashlib import sha256, shake_256
from operator import itemgetter
from typing import Any

import orjson

from broker.core.audit.kinds import KINDS, ROOTS
from broker.core.ledger.canonical import canonical
from broker.core.ledger.leaf import (
    LISTS,
    SALT_BYTES,
    SALTS,
    SEALED,
    SHOWN,
    VERSION,
    EntryInvalid,
    check,
    group_of,
    read_leaf,
    read_openings,
)
from broker.core.merkle.hashing import HASH_BYTES, root_of

_CACHE_LIMIT = 4_096

# A leaf in its one form, but for its commitments and rare names of instances: what does not fit is read slowly.
_LEAF = re.compile(
    rb'\{"epoch":(0|[1-9]\d{0,17}),"index":(0|[1-9]\d{0,17}),"instance":"([ !#-\[\]-~]*)","kind":"([a-z_]+)",'
    rb'"parts":\{(.*)\},"time_ms":(0|[1-9]\d{0,17}),"v":%d\}' % VERSION,
    re.DOTALL,
).fullmatch
_SALT_BEGIN = b'["salt","'
_SALT = slice(9, 53)
_ROOT = slice(len('"handed_out":"'), len('"handed_out":"') + 2 * HASH_BYTES)
_CLOSING = {ord("]")}
_starts = bytes.startswith
_last: Callable[[bytes], int] = itemgetter(-1)


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

    opened: its openings as they are stored, first the salt, without those of lists that have no items; None once erased.
    """

    __slots__ = ("_cache", "_parts", "epoch", "index", "instance", "kind", "leaf_hash", "opened", "time_ms")

    def __init__(
        self, place: tuple[str, int, int, str, int], leaf_hash: bytes, parts: bytes, cache: Cache
    ) -> None:
        """place: instance, index, epoch, kind, time. parts: the members of the leaf's `parts`, in canonical form."""
        self.instance, self.index, self.epoch, self.kind, self.time_ms = place
        self.leaf_hash = leaf_hash
        self.opened: list[bytes] | None = None
        self._parts = parts
        self._cache = cache

    @property
    def contents(self) -> dict[str, list[bytes]] | None:
        """By part its items in canonical form; None once erased."""
        if self.opened is None:
            return None
        return {name: self.items(name) for name in PARTS[self.kind]}

    @property
    def commitments(self) -> dict[str, str]:
        """By name, hexadecimal."""
        found: dict[str, str] = orjson.loads(b"{%b}" % self._parts)
        return found

    @property
    def handed_out(self) -> bytes:
        """The commitment of that name, which a delivery has before all others. Raises ValueError if it is no hash."""
        return unhexlify(self._parts[_ROOT])

    def value(self, name: str) -> Any:
        """A part's value; of a list part the list of its items."""
        contents = self.items(name)
        return parse(b"[%b]" % b",".join(contents) if name in LISTS else contents[0])

    def numbers(self, name: str) -> Any:
        """As `value`, of a part that is lists of numbers, of which there is but one form that matters."""
        return orjson.loads(self.items(name)[0])

    def shared(self, name: str) -> Any:
        """As `value`, for a part that many entries share; not to be changed."""
        return self._cache.value(self.items(name)[0])

    def items(self, name: str) -> list[bytes]:
        """A part's items in canonical form; raises EntryInvalid for an entry without it."""
        begin = len(name) + 4  # after `["name",`
        return [item[begin:-1] for item in self.openings(name)]

    def opening(self, name: str) -> bytes:
        """What opens a part that is no list; raises EntryInvalid for an entry without it."""
        return self.openings(name)[0]

    def openings(self, name: str) -> list[bytes]:
        """What opens the items of a part; raises EntryInvalid for an entry without it."""
        where = _PLANS[self.kind].where.get(name)
        if self.opened is None or where is None:
            raise EntryInvalid(f"the part '{name}' is not there")
        return self.opened[where]


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
        plan = _PLANS_BY_NAME.get(kind)
        opened = plan.open(openings, parts) if plan is not None and openings else None
        if plan is not None and opened is not None:
            place = (instance.decode(), int(index), int(epoch), plan.kind, int(time_ms))
            entry = Opened(place, sha256(b"\0" + leaf).digest(), parts, cache)
            entry.opened = opened
            return entry
    return _open_slowly(leaf, openings, cache)


def _open_slowly(leaf: bytes, openings: bytes, cache: Cache) -> Opened:
    """As `open_entry`, which opens quickly only what this would open."""
    try:
        canonical_parts = orjson.dumps(parse(leaf)["parts"], option=orjson.OPT_SORT_KEYS)
        read = read_leaf(leaf)
        expected = KINDS[read.kind]
    except (ValueError, KeyError, TypeError):
        raise EntryInvalid("the leaf is not readable, or of another version or kind") from None
    if read.parts.keys() != {group_of(name) for name in expected - ROOTS} | (expected & ROOTS):
        raise EntryInvalid("the leaf has not the commitments of its kind")
    place = (read.instance, read.index, read.epoch, read.kind, read.time_ms)
    entry = Opened(place, sha256(b"\0" + leaf).digest(), canonical_parts[1:-1], cache)
    if openings:
        shown = read_openings(openings)
        if shown.parts.keys() != expected - ROOTS:
            raise EntryInvalid("the openings have not the parts of the entry's kind")
        check(read, shown)
        empty = [b'["%b"]' % name.encode() for name, items in shown.parts.items() if not items]
        entry.opened = [item for item in openings.split(b"\t") if item not in empty]
    return entry


class _Plan:
    """How an entry of one kind lies in its openings: single parts, the items of at most one list part, single parts.

    where: by part its openings.
    """

    def __init__(self, kind: str, names: list[str]) -> None:
        self.kind = kind
        at = next((n for n, name in enumerate(names, 1) if name in LISTS), len(names) + 1)
        begins = [_SALT_BEGIN, *(b'["%b",' % name.encode() for name in names)]
        self._before, self._item, self._after = begins[:at], begins[at : at + 1], begins[at + 1 :]
        self._single = len(begins) - len(self._item)
        self._begins: dict[int, list[bytes]] = {}
        self.where = {name: slice(n, n + 1) for n, name in enumerate(names[: at - 1], 1)}
        last = -len(self._after)
        self.where |= {
            name: slice(n, n + 1 or None) for n, name in enumerate(names[at:], last) if self._after
        }
        if self._item:
            self.where[names[at - 1]] = slice(at, last or None)
        self._list = self.where[names[at - 1]] if self._item else slice(0, 0)
        self._sealed = self._texts_of(SEALED)
        self._shown = self._texts_of(SHOWN)
        groups = {group_of(name) for name in names} | (KINDS[kind] & ROOTS)
        self._leaf = ",".join(f'"{name}":"%s"' for name in sorted(groups))
        self._has_root = bool(KINDS[kind] & ROOTS)

    def open(self, openings: bytes, parts: bytes) -> list[bytes] | None:
        """The openings one by one; None if they, or the leaf's `parts`, are not what they should be, or not so plain."""
        items = openings.split(b"\t")
        listed = len(items) - self._single
        begins = self._begins.get(listed) or self._expect(listed)
        if begins is None or not all(map(_starts, items, begins)) or {*map(_last, items)} != _CLOSING:
            return None
        encoded = items[0][_SALT]
        try:
            salt = a2b_base64(encoded)
            unhexlify(parts[_ROOT] if self._has_root else b"")
        except ValueError:
            return None
        if items[0][_SALT.stop :] != b'"]' or b2a_base64(salt, newline=False) != encoded:
            return None
        return items if self._commitments(items, salt, listed, parts) == parts.decode("latin-1") else None

    def _commitments(self, items: list[bytes], salt: bytes, listed: int, parts: bytes) -> str:
        """What the leaf says if it is the leaf of these openings."""
        salts = shake_256(SALTS + salt).digest(SALT_BYTES * (listed + 2))
        at, end = SALT_BYTES * listed, SALT_BYTES * (listed + 1)
        found = [parts[_ROOT].decode("latin-1")] if self._has_root else []
        if listed == 1:
            found.append(sha256(b"\0" + salts[:SALT_BYTES] + items[self._list.start]).hexdigest())
        elif listed:
            salted = range(0, at, SALT_BYTES)
            texts = zip(salted, items[self._list], strict=True)
            hashes = [sha256(b"\0" + salts[n : n + SALT_BYTES] + text).digest() for n, text in texts]
            found.append(root_of(hashes).hex())
        if self._sealed is not None:
            found.append(sha256(b"\0" + salts[at:end] + b"\t".join(self._sealed(items))).hexdigest())
            at, end = end, end + SALT_BYTES
        if self._shown is not None:
            found.append(sha256(b"\0" + salts[at:end] + b"\t".join(self._shown(items))).hexdigest())
        return self._leaf % tuple(found)

    def _expect(self, listed: int) -> list[bytes] | None:
        """How the openings begin, with so many items of the list part; None if there cannot be so many."""
        if listed < len(self._item) or (listed and not self._item):
            return None
        begins = [*self._before, *self._item * listed, *self._after]
        if listed < _CACHE_LIMIT:
            self._begins[listed] = begins
        return begins

    def _texts_of(self, group: str) -> Callable[[list[bytes]], tuple[bytes, ...]] | None:
        """Takes those parts out of the openings that one commitment is over."""
        numbers = [where.start for name, where in sorted(self.where.items()) if group_of(name) == group]
        if len(numbers) > 1:
            return itemgetter(*numbers)
        return (lambda items: (items[numbers[0]],)) if numbers else None


PARTS = {kind: sorted(parts - ROOTS) for kind, parts in KINDS.items()}
"""By kind the parts that openings have, in their order."""

_PLANS = {kind: _Plan(kind, names) for kind, names in PARTS.items()}
_PLANS_BY_NAME = {kind.encode(): plan for kind, plan in _PLANS.items()}
