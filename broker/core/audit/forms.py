"""How the openings of each kind of entry lie: taken apart in one go, and the leaf that commits to them."""

from __future__ import annotations

import re
from binascii import a2b_base64
from hashlib import sha256, shake_256
from typing import Any

from broker.core.audit.kinds import KINDS, ROOTS
from broker.core.ledger.leaf import LISTS, SALT_BYTES, SALTS, SEALED, SHOWN, group_of, order_of
from broker.core.merkle.hashing import root_of

Taken = tuple[Any, ...]
"""What a form's pattern finds in openings, bytes or None; `Form.at` says where."""

PARTS = {kind: sorted(parts - ROOTS, key=order_of) for kind, parts in KINDS.items()}
"""By kind the parts that openings have, in their order."""

# Of the base64 of 32 bytes the last character but the padding holds four bits.
_SALT = rb'\["salt","([A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=)"\]'
_STANDING = rb'(\{"lags":\[\],"next":\[[0-9,]+\]\})'
# Another history may follow the first, and must not be taken for what the first withheld.
_WITHHELD = rb'(?![^\t]*\]\},\{"from":)(\[[^\t]*\])'
_INSIDE = {
    # A single history and nobody who lags, as nearly all are; what hides in the groups is parsed by who uses them.
    "considered": rb'\[\{"from":%b,"outcomes":(\{[^{}\t]*\}),"receivers":(\[[0-9,]*\]),"to":%b,"withheld":%b\}\]'
    % (_STANDING, _STANDING, _WITHHELD),
    "call": rb'\{"reference":"[ !#-\[\]-~]*","topic":"([ !#-\[\]-~]*)"\}',
}
"""By part what its content nearly always looks like, with what is taken out of it."""


class Form:
    """The form of one kind's openings. at: by part that is no list where its content is in what is taken."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        names = PARTS[kind]
        self.list = next((name for name in names if name in LISTS), None)
        single = [name for name in names if name not in LISTS]
        shown = [name for name in single if group_of(name) != SEALED]
        title = b"" if self.list is None else self.list.encode()
        listed = rb'(?:\["%b"\]\t|((?:\["%b",[^\t]*\]\t)+))' % (title, title) if title else b"()"
        sealed = b"(%b)" % rb"\t".join(map(_pattern, single[: len(single) - len(shown)]))
        rest = rb"\t(%b)" % rb"\t".join(map(_pattern, shown)) if shown else b""
        self._match = re.compile(_SALT + rb"\t" + listed + sealed + rest, re.DOTALL).fullmatch
        self.at: dict[str, int] = {}
        at = 3
        for name in single:
            at += name in shown[:1]  # before it stands the group of all that are shown
            self.at[name] = at
            at += 1 + re.compile(_INSIDE.get(name, b"")).groups
        self._shown = self.at[shown[0]] - 1 if shown else 0
        groups = sorted({group_of(name) for name in names} | (KINDS[kind] & ROOTS))
        self.has_root = bool(KINDS[kind] & ROOTS)
        # What stands in the leaf before each commitment; before the first one that of the kind.
        titles = {name: f'","{name}":"' for name in groups} | {
            groups[0]: f'{kind}","parts":{{"{groups[0]}":"'
        }
        self._root, self._items, self._seal, self._show = (
            titles.get(name or "", "") for name in (*ROOTS, self.list, SEALED, SHOWN)
        )

    def take(self, openings: bytes) -> tuple[Taken, list[bytes]] | None:
        """What is found, and the openings of the list's items; None if they have another form."""
        found = self._match(openings)
        if found is None:
            return None
        taken = found.groups()
        return taken, taken[1][:-1].split(b"\t") if taken[1] else []

    def leaf(self, begin: str, root: str, taken: Taken, listed: list[bytes], end: str) -> bytes:
        """The one leaf that an entry of this kind has, with these openings.

        begin, end: what it says of its place before its kind, and of its time after its commitments. root: hexadecimal, of
        the part that nothing opens.
        """
        many = len(listed)
        salts = shake_256(SALTS + a2b_base64(taken[0])).digest(SALT_BYTES * (many + 2))
        at = SALT_BYTES * many
        rest = at + SALT_BYTES
        found = [begin, self._root, root] if self.has_root else [begin]
        if many == 1:
            found += self._items, sha256(b"\0" + salts[:at] + listed[0]).hexdigest()
        elif many == 2:
            one, other = listed
            left = sha256(b"\0" + salts[:SALT_BYTES] + one).digest()
            right = sha256(b"\0" + salts[SALT_BYTES:at] + other).digest()
            found += self._items, sha256(b"\1" + left + right).hexdigest()
        elif self.list is not None:
            salted = zip(range(0, at, SALT_BYTES), listed, strict=True)
            hashes = [sha256(b"\0" + salts[n : n + SALT_BYTES] + text).digest() for n, text in salted]
            found += self._items, root_of(hashes).hex()
        found += self._seal, sha256(b"\0" + salts[at:rest] + taken[2]).hexdigest()
        if self._shown:
            found += self._show, sha256(b"\0" + salts[rest:] + taken[self._shown]).hexdigest()
        found.append(end)
        return "".join(found).encode()


def _pattern(name: str) -> bytes:
    inside = _INSIDE.get(name)
    content = b"[^\\t]*" if inside is None else b"%b|[^\\t]*" % inside
    return b'\\["%b",(%b)\\]' % (name.encode(), content)


FORMS = {kind: Form(kind) for kind in KINDS}
"""By kind."""
