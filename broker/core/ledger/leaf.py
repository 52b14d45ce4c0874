"""How an entry is stored: a leaf that holds only commitments, and beside it what opens them.

The leaf is the canonical JSON of `{"v":1,"instance","epoch","index","kind","time_ms","parts":{name: commitment}}`. A part is
committed to as a Merkle root, hexadecimal, over one salted hash for each of its items; a part that is no list has one item.
So any part, or one item of a list, can be shown to somebody without the rest, and erased openings leave the tree
verifiable (the idea of salted digests is that of SD-JWT, RFC 9901 §4.2.3).

The openings are `{"salt": base64 of 32 bytes, "parts": {name: value}}`. An item's salt is derived from the entry's, by part
and number, so that showing one item shows nothing of another's.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Iterator
from dataclasses import dataclass

import orjson

from broker.core.ledger.canonical import canonical
from broker.core.merkle.hashing import HASH_BYTES, leaf_hash, root_of
from broker.model.ledger import EncodedEntry, JsonValue, LedgerEntry

VERSION = 1
SALT_BYTES = 32

LISTS = frozenset({"acknowledged", "receivers", "records"})
"""Parts whose items can be shown one by one."""


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


def encode(entry: LedgerEntry, instance: str, epoch: int, index: int, salt: bytes) -> EncodedEntry:
    """The entry in its place. Raises ValueError for values without canonical form."""
    commitments: dict[str, JsonValue] = {name: root.hex() for name, root in entry.roots.items()}
    opened: list[bytes] = []
    for name in sorted(entry.body):
        root, content = _committed(salt, name, entry.body[name])
        commitments[name] = root.hex()
        opened.append(canonical(name) + b":" + content)
    leaf: dict[str, JsonValue] = {
        "v": VERSION,
        "instance": instance,
        "epoch": epoch,
        "index": index,
        "kind": entry.kind,
        "time_ms": entry.time_ms,
        "parts": commitments,
    }
    openings = b'{"parts":{%b},"salt":"%b"}' % (b",".join(opened), base64.b64encode(salt))
    return EncodedEntry(canonical(leaf), openings)


def commitment(salt: bytes, name: str, value: JsonValue) -> bytes:
    """The Merkle root over the salted hashes of the part's items, 32 bytes."""
    return _committed(salt, name, value)[0]


def _committed(salt: bytes, name: str, value: JsonValue) -> tuple[bytes, bytes]:
    """The commitment and the canonical form, in one pass."""
    contents = [canonical(item) for item in items(name, value)]
    root = root_of([leaf_hash(item_salt(salt, name, n) + content) for n, content in enumerate(contents)])
    return root, b"[%b]" % b",".join(contents) if _is_list(name, value) else contents[0]


def items(name: str, value: JsonValue) -> Iterator[JsonValue]:
    """What of a part can be shown by itself: the members of a list part, else the part."""
    if _is_list(name, value) and isinstance(value, list):
        yield from value
    else:
        yield value


def _is_list(name: str, value: JsonValue) -> bool:
    return name in LISTS and isinstance(value, list)


def item_salt(salt: bytes, name: str, number: int) -> bytes:
    """The salt of one item, 32 bytes; it says nothing of the entry's salt."""
    return hmac.digest(salt, f"{name}/{number}".encode(), "sha256")


def item_hash(salt: bytes, value: JsonValue) -> bytes:
    """What stands for one item in its part's tree: RFC 6962's leaf hash over salt and canonical form."""
    return leaf_hash(salt + canonical(value))


def read_leaf(leaf: bytes) -> Leaf:
    """Raises EntryInvalid for anything but a leaf of this version in canonical form."""
    try:
        content = orjson.loads(leaf)
        if content["v"] != VERSION or canonical(content) != leaf:
            raise EntryInvalid("the leaf is not canonical, or of another version")
        parts = {name: _hash(text) for name, text in content["parts"].items()}
        read = Leaf(
            content["instance"], content["epoch"], content["index"], content["kind"], content["time_ms"], parts
        )
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise EntryInvalid("the leaf is not readable") from error
    numbers = (read.epoch, read.index, read.time_ms)
    if not (isinstance(read.instance, str) and isinstance(read.kind, str)) or any(
        type(number) is not int for number in numbers
    ):
        raise EntryInvalid("the leaf is not readable")
    return read


def open_entry(encoded: EncodedEntry) -> tuple[Leaf, LedgerEntry]:
    """The leaf, and the entry with what the openings show; raises EntryInvalid, also if they do not match the leaf."""
    leaf = read_leaf(encoded.leaf)
    if not encoded.openings:
        return leaf, LedgerEntry(leaf.kind, leaf.time_ms, {}, leaf.parts)
    try:
        content = orjson.loads(encoded.openings)
        salt = base64.b64decode(content["salt"], validate=True)
        opened = dict(content["parts"])
    except (ValueError, KeyError, TypeError) as error:
        raise EntryInvalid("the openings are not readable") from error
    for name, value in opened.items():
        if leaf.parts.get(name) != commitment(salt, name, value):
            raise EntryInvalid("the openings are not those of the leaf")
    roots = {name: root for name, root in leaf.parts.items() if name not in opened}
    return leaf, LedgerEntry(leaf.kind, leaf.time_ms, opened, roots)


def _hash(text: object) -> bytes:
    if not isinstance(text, str) or len(text) != 2 * HASH_BYTES:
        raise EntryInvalid("a commitment is no SHA-256 hash")
    return bytes.fromhex(text)
