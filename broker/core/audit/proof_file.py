"""The form of a proof in a file: one JSON object in one form only, so that nothing can be hidden in it.

`leaf` and `checkpoint` are texts as they were hashed and signed, `path` leads from the leaf to the checkpoint's root
(RFC 6962 §2.1.1, hexadecimal, lowest first). Either `openings` is the entry's openings, whole, or `items` are single ones:
`part`, the name of a commitment, `number` of `count`, `salt` (base64), `content`, its openings as text, and the `path` to
the commitment.
Of a single item `count` is no more than what the path's form needs: a Merkle root does not say how many leaves it has.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import orjson

FORMAT = "entente-proof/1"


@dataclass(frozen=True, slots=True)
class Item:
    """One opened item of what a commitment is over."""

    part: str
    number: int
    count: int
    salt: bytes
    content: bytes
    path: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class ProofFile:
    """A proof as it is written. openings: of the whole entry, or None, and then `items`."""

    leaf: bytes
    path: tuple[bytes, ...]
    checkpoint: bytes
    openings: bytes | None
    items: tuple[Item, ...] = ()

    def encode(self) -> bytes:
        """The file's content."""
        document: dict[str, Any] = {
            "format": FORMAT,
            "leaf": self.leaf.decode(),
            "path": [node.hex() for node in self.path],
            "checkpoint": self.checkpoint.decode(),
        }
        if self.openings is not None:
            document["openings"] = self.openings.decode()
        else:
            document["items"] = [_encode_item(item) for item in self.items]
        return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)

    @classmethod
    def read(cls, document: bytes) -> ProofFile:
        """Raises ValueError for anything but what `encode` gives."""
        try:
            content = orjson.loads(document)
            opened = content.get("openings")
            read = cls(
                leaf=content["leaf"].encode(),
                path=tuple(bytes.fromhex(node) for node in content["path"]),
                checkpoint=content["checkpoint"].encode(),
                openings=None if opened is None else opened.encode(),
                items=tuple(_read_item(item) for item in content.get("items", ())),
            )
            if read.encode() == document:
                return read
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ValueError(f"it is no proof of the form {FORMAT}") from None
        raise ValueError(f"it holds more than a proof of the form {FORMAT}, or was written in another form")


def _encode_item(item: Item) -> dict[str, Any]:
    return {
        "part": item.part,
        "number": item.number,
        "count": item.count,
        "salt": base64.b64encode(item.salt).decode(),
        "content": item.content.decode(),
        "path": [node.hex() for node in item.path],
    }


def _read_item(item: dict[str, Any]) -> Item:
    if type(item["number"]) is not int or type(item["count"]) is not int:
        raise ValueError("no item")
    return Item(
        item["part"],
        item["number"],
        item["count"],
        base64.b64decode(item["salt"], validate=True),
        item["content"].encode(),
        tuple(bytes.fromhex(node) for node in item["path"]),
    )
