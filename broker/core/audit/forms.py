"""How the openings of each kind of entry lie: taken apart in one go, and compared with what the leaf commits to."""

from __future__ import annotations

import re
from binascii import a2b_base64
from hashlib import sha256, shake_256
from typing import Any

from broker.core.audit.kinds import KINDS, ROOTS
from broker.core.ledger.leaf import LISTS, SALT_BYTES, SALTS, SEALED, group_of, order_of
from broker.core.merkle.hashing import HASH_BYTES, root_of

Taken = tuple[Any, ...]
"""What a form's pattern finds in openings, bytes or None; `Form.at` says where."""

PARTS = {kind: sorted(parts - ROOTS, key=order_of) for kind, parts in KINDS.items()}
"""By kind the parts that openings have, in their order."""

ROOT = slice(len('"handed_out":"'), len('"handed_out":"') + 2 * HASH_BYTES)
"""Where the root stands in the members of a leaf's `parts` that has one: before all others."""

# Of the base64 of 32 bytes the last character but the padding holds four bits.
_SALT = rb'\["salt","([A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=)"\]'
_STANDING = rb'(\{"lags":\[\],"next":\[[0-9,]+\]\})'
_INSIDE = {
    # A single history and nobody who lags, as nearly all are; what hides in the groups is parsed by who uses them.
    "considered": rb'\[\{"from":%b,"outcomes":(\{[^{}\t]*\}),"receivers":(\[[0-9,]*\]),"to":%b,"withheld":(\[[^\t]*\])\}\]'
    % (_STANDING, _STANDING),
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
        groups = {group_of(name) for name in names} | (KINDS[kind] & ROOTS)
        self._leaf = ",".join(f'"{name}":"%s"' for name in sorted(groups))
        self._has_root = bool(KINDS[kind] & ROOTS)

    def take(self, openings: bytes) -> tuple[Taken, list[bytes]] | None:
        """What is found, and the openings of the list's items; None if they have another form."""
        found = self._match(openings)
        if found is None:
            return None
        taken = found.groups()
        return taken, taken[1][:-1].split(b"\t") if taken[1] else []

    def is_committed(self, taken: Taken, listed: list[bytes], parts: bytes) -> bool:
        """Whether the members of a leaf's `parts` are, in the one form that they have, the commitments to these openings."""
        encoded, sealed = taken[0], taken[2]
        many = len(listed)
        salts = shake_256(SALTS + a2b_base64(encoded)).digest(SALT_BYTES * (many + 2))
        at, end = SALT_BYTES * many, SALT_BYTES * (many + 1)
        found = []
        if self._has_root:
            root = parts[ROOT]  # whether it is a hash is asked where it is read
            found.append(root.decode() if root.isalnum() else "")
        if many == 1:
            found.append(sha256(b"\0" + salts[:at] + listed[0]).hexdigest())
        elif self.list is not None:
            salted = zip(range(0, at, SALT_BYTES), listed, strict=True)
            found.append(
                root_of(
                    [sha256(b"\0" + salts[n : n + SALT_BYTES] + text).digest() for n, text in salted]
                ).hex()
            )
        found.append(sha256(b"\0" + salts[at:end] + sealed).hexdigest())
        if self._shown:
            found.append(sha256(b"\0" + salts[end:] + taken[self._shown]).hexdigest())
        return self._leaf % tuple(found) == parts.decode("latin-1")


def _pattern(name: str) -> bytes:
    inside = _INSIDE.get(name)
    content = b"[^\\t]*" if inside is None else b"%b|[^\\t]*" % inside
    return b'\\["%b",(%b)\\]' % (name.encode(), content)


FORMS = {kind: Form(kind) for kind in KINDS}
"""By kind."""
