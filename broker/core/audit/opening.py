"""Opening entries fast: every commitment checked on the bytes as they are stored, values parsed only where asked for."""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64
from hashlib import sha256, shake_256
from typing import Any

import orjson

from broker.core.audit.kinds import KINDS, ROOTS
from broker.core.ledger.canonical import canonical
from broker.core.ledger.leaf import LISTS, SALT_BYTES, SALTS, VERSION, EntryInvalid
from broker.core.merkle.hashing import root_of

_SALT = slice(9, 53)
_SALTED_BYTES = 55
_LEAF_MEMBERS = 7
_CACHE_LIMIT = 4_096
_CLOSING = ord("]")


_Part = tuple[str, bytes, int, bool]
"""A name, how its items begin, that's length, if it is a list."""


def _part(name: str) -> _Part:
    begin = b'["%b",' % name.encode()
    return (name, begin, len(begin), name in LISTS)


_PARTS = {kind: tuple(_part(name) for name in sorted(parts - ROOTS)) for kind, parts in KINDS.items()}
"""By kind the parts that openings have, in their order."""


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
    """An entry whose place and commitments hold. contents: by part its items in canonical form, None once erased."""

    __slots__ = (
        *("_cache", "_values", "commitments", "contents", "epoch", "index", "instance", "kind", "leaf_hash"),
        "time_ms",
    )

    def __init__(
        self, leaf: dict[str, Any], leaf_hash: bytes, contents: dict[str, list[bytes]] | None, cache: Cache
    ) -> None:
        """leaf: as it was parsed, and found to be whole."""
        self.instance: str = leaf["instance"]
        self.index: int = leaf["index"]
        self.epoch: int = leaf["epoch"]
        self.kind: str = leaf["kind"]
        self.time_ms: int = leaf["time_ms"]
        self.commitments: dict[str, str] = leaf["parts"]
        self.leaf_hash = leaf_hash
        self.contents = contents
        self._cache = cache
        self._values: dict[str, Any] = {}

    def value(self, name: str) -> Any:
        """A part's value, parsed once; of a list part the list of its items."""
        found = self._values.get(name)
        if found is None:
            contents = self.items(name)
            content = b"[%b]" % b",".join(contents) if name in LISTS else contents[0]
            found = self._values[name] = parse(content)
        return found

    def numbers(self, name: str) -> Any:
        """As `value`, of a part that is lists of numbers, of which there is but one form that matters."""
        found = self._values.get(name)
        if found is None:
            found = self._values[name] = orjson.loads(self.items(name)[0])
        return found

    def shared(self, name: str) -> Any:
        """As `value`, for a part that many entries share; not to be changed."""
        return self._cache.value(self.items(name)[0])

    def items(self, name: str) -> list[bytes]:
        """A part's items in canonical form; raises EntryInvalid for an entry without it."""
        if self.contents is None or name not in self.contents:
            raise EntryInvalid(f"the part '{name}' is not there")
        return self.contents[name]


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
    try:
        content = parse(leaf)
        kind, parts, index, epoch = content["kind"], content["parts"], content["index"], content["epoch"]
        instance, time_ms = content["instance"], content["time_ms"]
        plan, expected = _PARTS[kind], KINDS[kind]
        # Of those that are opened, opening looks for each by its name.
        fits = len(parts) == len(expected) if openings else parts.keys() == expected
        fits = fits and content["v"] == VERSION and len(content) == _LEAF_MEMBERS
    except (ValueError, KeyError, TypeError, AttributeError):
        raise EntryInvalid("the leaf is not readable, or of a kind that nobody knows") from None
    typed = type(index) is int and type(epoch) is int and type(time_ms) is int and type(instance) is str
    if not fits or not typed:
        raise EntryInvalid("the leaf is of another version, or has not the parts of its kind")
    contents = _open(openings, parts, plan) if openings else None
    return Opened(content, sha256(b"\0" + leaf).digest(), contents, cache)


def _open(openings: bytes, commitments: dict[str, str], parts: tuple[_Part, ...]) -> dict[str, list[bytes]]:
    salt = _salt(openings)
    items = openings.split(b"\t")
    # One for each item; a list without items has none, so there may be some too many.
    salts = shake_256(SALTS + salt).digest(SALT_BYTES * len(items))
    items.append(b"")
    contents: dict[str, list[bytes]] = {}
    at, salted = 1, 0
    for name, begin, begin_bytes, is_list in parts:
        item = items[at]
        if (
            item[:begin_bytes] == begin
            and item[-1] == _CLOSING
            and not (is_list and items[at + 1][:begin_bytes] == begin)
        ):
            at += 1
            content = item[begin_bytes:-1]
            contents[name] = [content]
            # As item_hash: this is where the time goes.
            found = sha256(b"\0" + salts[salted : salted + SALT_BYTES] + content).hexdigest()
            salted += SALT_BYTES
        else:
            contents[name] = listed = _listed(name, items, at)
            at += len(listed) or 1
            end = salted + SALT_BYTES * len(listed)
            found = _root(salts[salted:end], listed)
            salted = end
        if found != commitments.get(name):
            raise EntryInvalid(f"what is stored as '{name}' is not what the leaf commits to")
    if at != len(items) - 1:
        raise EntryInvalid("the openings hold more than the parts that the leaf has")
    return contents


def _listed(name: str, items: list[bytes], at: int) -> list[bytes]:
    """The contents of a list part whose items begin there."""
    title = name.encode()
    if name in LISTS and items[at] == b'["%b"]' % title:
        return []
    begin, found = b'["%b",' % title, []
    while name in LISTS and items[at].startswith(begin) and items[at].endswith(b"]"):
        found.append(items[at][len(begin) : -1])
        at += 1
    if not found:
        raise EntryInvalid(f"the openings are not readable, or have no part '{name}'")
    return found


def _root(salts: bytes, contents: list[bytes]) -> str:
    hashes = [
        sha256(b"\0" + salts[begin : begin + SALT_BYTES] + content).digest()
        for begin, content in zip(range(0, len(salts), SALT_BYTES), contents, strict=True)
    ]
    return root_of(hashes).hex()


def _salt(openings: bytes) -> bytes:
    try:
        salt = a2b_base64(openings[_SALT])
    except ValueError:
        salt = b""
    if len(salt) != SALT_BYTES or openings[:_SALTED_BYTES] != b'["salt","%b"]' % b2a_base64(
        salt, newline=False
    ):
        raise EntryInvalid("the openings do not begin with a salt")
    return salt
