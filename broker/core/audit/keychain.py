"""Which keys a ledger's checkpoints may be signed with: those from outside, and those that they vouch for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from broker.core.audit.checkpoints import Opened, Signed
from broker.core.audit.chunk import ASK, RESTORE
from broker.core.audit.findings import Findings
from broker.core.audit.trust import Trust
from broker.core.checkpoint.note import NoteInvalid, VerifierKey


@dataclass(frozen=True, slots=True)
class _Rotation:
    index: int
    old: VerifierKey
    new: VerifierKey


class KeyChain:
    """One instance's keys, as its entries name them and its checkpoints prove them.

    A key is trusted if it comes from outside, or if an entry `key_rotated` hands over to it and a checkpoint that covers the
    entry is signed by the key before, which was trusted itself. Without keys from outside those that entries name will do.
    """

    def __init__(self, instance: str, trust: Trust, findings: Findings) -> None:
        self._instance = instance
        self._findings = findings
        self._from_outside = bool(trust.keys)
        self._trusted = {key.public_key: key for key in trust.keys}
        self._named: dict[bytes, VerifierKey] = {}
        self._rotations: list[_Rotation] = []
        self._current: VerifierKey | None = None
        self._unexplained: tuple[int, VerifierKey] | None = None
        self._untrusted: int | None = None
        self._untrusted_count = 0
        self.exchange: str | None = None
        self.signed = 0
        self.signer = ""

    def candidates(self, coming: Iterable[tuple[int, str, Any]]) -> list[VerifierKey]:
        """All keys that may have signed; coming: what is about to be learned."""
        found = self._named | self._trusted
        for _, kind, what in coming:
            for text in what[1:] if kind == "start" else what:
                with contextlib.suppress(NoteInvalid, AttributeError, TypeError):
                    key = VerifierKey.parse(text)
                    found.setdefault(key.public_key, key)
        return list(found.values())

    def is_known(self, signed: Signed) -> bool:
        """Whether a key that counts has signed: a trusted one, or without any from outside one that the ledger names."""
        known = self._trusted if self._from_outside else self._named
        return not signed.fault and not signed.by.isdisjoint(known)

    def learn(self, index: int, kind: str, what: Any) -> None:
        """What a configuration ("start": exchange, key) or key_rotated entry ("rotated": old, new) says of ledger keys.

        Of one whose openings are "erased" nobody knows which key signs from there on.
        """
        if kind == "erased":
            self._current = self._unexplained = None
            return
        try:
            if kind == "start":
                self.exchange = str(what[0])
                self._started(index, VerifierKey.parse(what[1]))
            else:
                self._rotated(index, VerifierKey.parse(what[0]), VerifierKey.parse(what[1]))
        except (NoteInvalid, TypeError, AttributeError):
            self._findings.fault(self._instance, index, "a ledger key that it names cannot be read")

    def judge(self, opened: Opened, signed: Signed) -> None:
        """A checkpoint with the signatures that it bears, after all entries that it covers were learned from."""
        size = opened.checkpoint.size
        if signed.fault:
            self._fault(size, f"the checkpoint of size {size}: {signed.fault}")
            return
        handed_over = self._hand_over(size, signed.by)
        known = self._trusted if self._from_outside else self._named
        signers = [key for public, key in known.items() if public in signed.by]
        if not signers and not self._from_outside:
            self._fault(size, f"the checkpoint of size {size} is signed by no key that the ledger names")
        elif not signers:
            self._untrusted_count += 1
            self._untrusted = size if self._untrusted is None else self._untrusted
            return
        current = self._current
        settled = not handed_over and not self._pending(size) and self._unexplained is None
        if settled and current is not None and current.public_key in known.keys() - signed.by:
            self._fault(size, f"the checkpoint of size {size} is signed by a key that was rotated away")
        if signers and size >= self.signed:
            self.signed, self.signer = size, signers[-1].text()
            if self._untrusted is not None:
                what = f"{self._untrusted_count} checkpoints up to here are signed by keys that only the ledger names"
                self._findings.remark(self._instance, size - 1, what, "give these keys with --public-key")
                self._untrusted, self._untrusted_count = None, 0

    def finish(self) -> None:
        """After the last checkpoint."""
        if self._untrusted is not None:
            what = f"from the checkpoint of size {self._untrusted} on none is signed by a key that you trust"
            self._fault(self._untrusted, what)
        if self._unexplained is not None:
            what = "the ledger's key changed without a key_rotated entry"
            self._findings.fault(self._instance, self._unexplained[0], what, ASK)

    def _started(self, index: int, key: VerifierKey) -> None:
        self._named[key.public_key] = key
        if self._current is None:
            self._current = key
        elif self._current.public_key != key.public_key:
            self._unexplained = index, key

    def _rotated(self, index: int, old: VerifierKey, new: VerifierKey) -> None:
        self._named[old.public_key], self._named[new.public_key] = old, new
        self._rotations.append(_Rotation(index, old, new))
        if self._current is not None and self._current.public_key != old.public_key:
            what = "a key is rotated that was not the ledger's"
            self._findings.fault(self._instance, index, what, ASK)
        self._current = new
        if self._unexplained is not None and self._unexplained[1].public_key == new.public_key:
            self._unexplained = None

    def _hand_over(self, size: int, signed_by: frozenset[bytes]) -> bool:
        """Trust the keys that trusted ones hand over to with this checkpoint; whether one does."""
        known = self._trusted if self._from_outside else self._named
        done = [
            rotation
            for rotation in self._rotations
            if rotation.index < size
            and rotation.old.public_key in signed_by
            and rotation.old.public_key in known
        ]
        for rotation in done:
            known.setdefault(rotation.new.public_key, rotation.new)
            self._rotations.remove(rotation)
        return bool(done)

    def _pending(self, size: int) -> bool:
        """Whether a change of the key lies before this size that no checkpoint has covered yet."""
        return any(rotation.index < size for rotation in self._rotations)

    def _fault(self, size: int, what: str) -> None:
        self._findings.fault(self._instance, max(0, size - 1), what, RESTORE)
