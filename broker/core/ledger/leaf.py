"""How an entry is stored: a leaf that holds only commitments, and beside it what opens them.

The openings are JSON arrays with tabs between them, which canonical JSON never contains: `["salt", base64 of 32 bytes]`,
then `[name, item]` for each item; a list part without items is `[name]`. Parts that are committed to together stand
together: they are in the order of their commitments' names, and then of their own.

The leaf is the canonical JSON of `{"v":1,"instance","epoch","index","kind","time_ms","parts":{name: commitment}}`. There is
a commitment, hexadecimal, for each list part, a Merkle root over one salted hash for each of its items; one for `shown`, the
parts that are shown together to those whom an entry is about; and one for `sealed`, all others. So each can be shown to
somebody without the rest, and erased openings leave the tree verifiable (the idea of salted digests is that of SD-JWT,
RFC 9901 §4.2.3). What is hashed are the openings as they stand, of `shown` and `sealed` with the tabs between them. The
salts are consecutive 32 bytes of SHAKE-256 (FIPS 202) over the entry's salt, in the order of the commitments' names, so
that one that is shown says nothing of another.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from hashlib import sha256, shake_256
from itertools import chain

import orjson

from broker.core.ledger.canonical import canonical, canonical_each
from broker.core.merkle.hashing import HASH_BYTES, root_of
from broker.model.ledger import EncodedEntry, JsonValue, LedgerEntry

VERSION = 1
SALT_BYTES = 32
SALTS = b"entente item salts v1\0"
"""Stands before an entry's salt where its items' salts are derived from it."""

LISTS = frozenset({"acknowledged", "receivers", "records"})
"""Parts whose items can be shown one by one."""

SHOWN_PARTS = frozenset({"call", "class", "count", "who"})
"""Parts that are committed to together as SHOWN; those that are no lists and not here, as SEALED."""

SHOWN, SEALED = "shown", "sealed"


class EntryInvalid(ValueError):
    """A stored entry is not what this module writes; one line that says how, without content."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """A leaf read back; `parts` are the commitments by name, 32 bytes each."""

    instance: str
    epoch: int
    index: int
    kind: str
    time_ms: int
    parts: dict[str, bytes]


@dataclass(frozen=True, slots=True)
class Openings:
    """What opens an entry's commitments: its salt, and by part the canonical form of each item."""

    salt: bytes
    parts: dict[str, list[bytes]]

    def groups(self) -> dict[str, list[tuple[bytes, bytes]]]:
        """By commitment what it is over: salt (32 bytes) and opening of each item."""
        return _grouped(self.salt, {name: _opened(name, contents) for name, contents in self.parts.items()})

    def commitments(self) -> dict[str, bytes]:
        """By commitment the Merkle root over the salted hashes of its items, 32 bytes."""
        return _roots(self.groups())

    def values(self) -> dict[str, JsonValue]:
        """The parts as they were written."""
        return {
            name: [orjson.loads(item) for item in items] if name in LISTS else orjson.loads(items[0])
            for name, items in self.parts.items()
        }


@dataclass(frozen=True, slots=True)
class Committed:
    """An entry that has been committed to and has no place yet."""

    kind: str
    time_ms: int
    commitments: dict[str, JsonValue]
    openings: bytes

    @property
    def size(self) -> int:
        """About how many bytes it takes as it is stored."""
        return len(self.openings) + 96 * len(self.commitments) + 128

    def at(self, instance: str, epoch: int, index: int) -> EncodedEntry:
        """The entry in its place."""
        leaf: dict[str, JsonValue] = {
            "v": VERSION,
            "instance": instance,
            "epoch": epoch,
            "index": index,
            "kind": self.kind,
            "time_ms": self.time_ms,
            "parts": self.commitments,
        }
        return EncodedEntry(canonical(leaf), self.openings)


def commit(entry: LedgerEntry, salt: bytes) -> Committed:
    """Commit to the parts. Raises ValueError for values without canonical form, or no list where LISTS says so."""
    opened: dict[str, list[bytes]] = {}
    for name in sorted(entry.body, key=order_of):
        if not _NAME.fullmatch(name):
            raise ValueError("a part's name is of small letters and underscores")
        opened[name] = _opened(name, canonical_each(_items(name, entry.body[name])))
    roots = {**entry.roots, **_roots(_grouped(salt, opened))}
    commitments: dict[str, JsonValue] = {name: root.hex() for name, root in roots.items()}
    openings = b"\t".join([_salted(salt), *chain.from_iterable(opened.values())])
    return Committed(entry.kind, entry.time_ms, commitments, openings)


def encode(entry: LedgerEntry, instance: str, epoch: int, index: int, salt: bytes) -> EncodedEntry:
    """The entry in its place. Raises ValueError as `commit` does."""
    return commit(entry, salt).at(instance, epoch, index)


def order_of(part: str) -> tuple[str, str]:
    """What parts are sorted by in the openings."""
    return group_of(part), part


def item_salts(salt: bytes, count: int) -> list[bytes]:
    """The salts of an entry's first `count` items, in the order of the commitments' names; 32 bytes each.

    An extendable-output function of a secret: no stretch of its output says anything of another, or of the secret.
    """
    stream = shake_256(SALTS + salt).digest(SALT_BYTES * count)
    return [stream[begin : begin + SALT_BYTES] for begin in range(0, len(stream), SALT_BYTES)]


def item_hash(salt: bytes, opening: bytes) -> bytes:
    """What stands for one item in its commitment's tree: RFC 6962's leaf hash over salt and opening."""
    return sha256(b"\x00" + salt + opening).digest()


def group_of(part: str) -> str:
    """The name of the commitment that a part is under."""
    return part if part in LISTS else SHOWN if part in SHOWN_PARTS else SEALED


def read_leaf(leaf: bytes) -> Leaf:
    """Raises EntryInvalid for anything but a leaf of this version."""
    try:
        content = orjson.loads(leaf)
        parts = {name: _hash(text) for name, text in content["parts"].items()}
        texts, numbers = (content["instance"], content["kind"]), [content[name] for name in _NUMBERS]
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise EntryInvalid("the leaf is not readable") from error
    if numbers[0] != VERSION or len(content) != 1 + len(texts) + len(numbers):
        raise EntryInvalid("the leaf is of another version")
    if any(type(text) is not str for text in texts) or any(type(number) is not int for number in numbers):
        raise EntryInvalid("the leaf is not readable")
    _, epoch, index, time_ms = numbers
    return Leaf(texts[0], epoch, index, texts[1], time_ms, parts)


def read_openings(openings: bytes) -> Openings:
    """Raises EntryInvalid unless they have the one form that `encode` gives them.

    Whether they match the leaf is `check`'s question.
    """
    salted, *opened = openings.split(b"\t")
    salt = _read_salt(salted)
    parts: dict[str, list[bytes]] = {}
    previous = ("", "")
    for item in opened:
        found = _ITEM.fullmatch(item)
        if found is None:
            raise EntryInvalid("the openings are not readable")
        name, content = found[1].decode(), found[2]
        order, is_list = order_of(name), name in LISTS
        if order > previous and (is_list or content is not None):
            contents = parts[name] = [] if content is None else [content]
        elif order == previous and is_list and contents and content is not None:
            contents.append(content)
        else:
            raise EntryInvalid("the openings are not in order")
        previous = order
    return Openings(salt, parts)


def check(leaf: Leaf, openings: Openings) -> None:
    """Raises EntryInvalid if a part that is opened is not the one that the leaf commits to."""
    for name, found in openings.commitments().items():
        if leaf.parts.get(name) != found:
            raise EntryInvalid(f"what is stored as '{name}' is not what the leaf commits to")


def open_entry(encoded: EncodedEntry) -> tuple[Leaf, LedgerEntry]:
    """The leaf, and the entry with what the openings show; raises EntryInvalid, also if they do not match the leaf."""
    leaf = read_leaf(encoded.leaf)
    if not encoded.openings:
        return leaf, LedgerEntry(leaf.kind, leaf.time_ms, {}, leaf.parts)
    openings = read_openings(encoded.openings)
    check(leaf, openings)
    try:
        values = openings.values()
    except (orjson.JSONDecodeError, IndexError) as error:
        raise EntryInvalid("the openings are not readable") from error
    opened = {group_of(name) for name in values}
    roots = {name: root for name, root in leaf.parts.items() if name not in opened}
    return leaf, LedgerEntry(leaf.kind, leaf.time_ms, values, roots)


_NUMBERS = ("v", "epoch", "index", "time_ms")
_NAME = re.compile(r"[a-z_]+")
_ITEM = re.compile(rb'\["([a-z_]+)"(?:,(.+))?\]', re.DOTALL)
_SALT_BEGIN, _SALT_END = b'["salt","', b'"]'


def _items(name: str, value: JsonValue) -> list[JsonValue]:
    """What of a part can be shown by itself: the members of a list part, else the part."""
    if name not in LISTS:
        return [value]
    if not isinstance(value, list):
        raise ValueError(f"the part '{name}' of a ledger entry is a list")
    return value


def _grouped(salt: bytes, opened: dict[str, list[bytes]]) -> dict[str, list[tuple[bytes, bytes]]]:
    """By commitment the salt and the opening of each item. opened: by part its openings, parts in their order."""
    texts: dict[str, list[bytes]] = {}
    for name, openings in opened.items():
        if name not in LISTS:
            texts.setdefault(group_of(name), []).extend(openings)
        else:  # a list without items has an opening, and no item
            texts[name] = openings if openings != _opened(name, []) else []
    texts = {name: each if name in LISTS else [b"\t".join(each)] for name, each in texts.items()}
    salts = iter(item_salts(salt, sum(map(len, texts.values()))))
    # The texts come first: at their end zip must not have taken a salt.
    return {
        name: [(salt, text) for text, salt in zip(texts[name], salts, strict=False)] for name in sorted(texts)
    }


def _roots(groups: dict[str, list[tuple[bytes, bytes]]]) -> dict[str, bytes]:
    return {name: root_of([item_hash(*item) for item in items]) for name, items in groups.items()}


def _opened(name: str, contents: list[bytes]) -> list[bytes]:
    title = name.encode()
    return [b'["%b",%b]' % (title, content) for content in contents] or [b'["%b"]' % title]


def _read_salt(salted: bytes) -> bytes:
    try:
        salt = base64.b64decode(salted[len(_SALT_BEGIN) : -len(_SALT_END)])
    except ValueError as error:
        raise EntryInvalid("the openings do not begin with a salt") from error
    if len(salt) != SALT_BYTES or salted != _salted(salt):
        raise EntryInvalid("the openings do not begin with a salt")
    return salt


def _salted(salt: bytes) -> bytes:
    return _SALT_BEGIN + base64.b64encode(salt) + _SALT_END


def _hash(text: str) -> bytes:
    found = bytes.fromhex(text)
    if len(found) != HASH_BYTES:
        raise EntryInvalid("a commitment is no SHA-256 hash")
    return found
