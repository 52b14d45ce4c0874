"""Signed notes (C2SP signed-note) with Ed25519 keys: a text, a blank line, and a line for each signature.

Reading is strict: what differs from the one form that writing gives is refused, not repaired. Signatures of unknown keys
are kept and ignored, as the text demands; a known key's signature that does not verify condemns the whole note.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

MAX_NOTE_BYTES = 65_536
MAX_SIGNATURES = 100

ED25519 = 0x01
COSIGNATURE_V1 = 0x04
"""Signature types (C2SP signed-note, Signature types): over the note's text, and a witness's with a time."""

KEY_HASH_BYTES = 4
PUBLIC_KEY_BYTES = 32
_PREFIX = "— "
_NOT_IN_A_NOTE = re.compile("[\x00-\x09\x0b-\x1f\ud800-\udfff]")
"""ASCII control characters but newline, and what has no UTF-8 form."""


class NoteInvalid(ValueError):
    """A note, key or signature is not what it should be; one line that says how, without content."""


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key under a name. algorithm: ED25519 or COSIGNATURE_V1; public_key: 32 bytes (RFC 8032)."""

    name: str
    algorithm: int
    public_key: bytes

    def __post_init__(self) -> None:
        _check_name(self.name)
        if self.algorithm not in (ED25519, COSIGNATURE_V1):
            raise NoteInvalid("the key's signature type is neither 1 (Ed25519) nor 4 (cosignature/v1)")
        if len(self.public_key) != PUBLIC_KEY_BYTES:
            raise NoteInvalid(f"an Ed25519 public key has {PUBLIC_KEY_BYTES} bytes")

    @classmethod
    def ed25519(cls, name: str, public_key: bytes) -> VerifierKey:
        """A key that signs notes as they are."""
        return cls(name, ED25519, public_key)

    @classmethod
    def parse(cls, text: str) -> VerifierKey:
        """Read `name+hash+base64`, without a line's end; raises NoteInvalid, also if the hash is not the key's."""
        name, *parts = text.split("+", 2)
        if len(parts) != 2:
            raise NoteInvalid("a verifier key has the form name+hash+key")
        encoded = from_base64(parts[1])
        key = cls(name, encoded[0] if encoded else 0, encoded[1:])
        if parts[0] != key.key_hash.hex():
            raise NoteInvalid("the verifier key's hash is not that of its name and key")
        return key

    @property
    def key_hash(self) -> bytes:
        """The key ID: the first 4 bytes of SHA-256(name || 0x0A || signature type || public key)."""
        return sha256(self.name.encode() + b"\n" + self._encoded()).digest()[:KEY_HASH_BYTES]

    def text(self) -> str:
        """The vkey: `name+hash+base64`."""
        return f"{self.name}+{self.key_hash.hex()}+{base64.b64encode(self._encoded()).decode()}"

    def named(self, name: str) -> VerifierKey:
        """The same key under another name, hence with another key hash."""
        return VerifierKey(name, self.algorithm, self.public_key)

    def verify(self, message: bytes, signature: bytes) -> None:
        """Raises NoteInvalid unless the signature (64 bytes) is this key's over the message."""
        try:
            Ed25519PublicKey.from_public_bytes(self.public_key).verify(signature, message)
        except (InvalidSignature, ValueError) as error:
            raise NoteInvalid(f"the signature of {shown(self.name)} does not verify") from error

    def _encoded(self) -> bytes:
        return bytes([self.algorithm]) + self.public_key


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One signature line; signature: what follows the key hash (for Ed25519 64 bytes, cosignatures have 8 before)."""

    name: str
    key_hash: bytes
    signature: bytes

    def __post_init__(self) -> None:
        _check_name(self.name)
        if len(self.key_hash) != KEY_HASH_BYTES or not self.signature:
            raise NoteInvalid("a signature line holds a key hash of 4 bytes and a signature")

    @classmethod
    def parse(cls, line: str) -> NoteSignature:
        """Read a line, without its end; raises NoteInvalid."""
        name, *rest = line.removeprefix(_PREFIX).split(" ")
        if not line.startswith(_PREFIX) or len(rest) != 1:
            raise NoteInvalid("a signature line has the form '— name base64'")
        signature = from_base64(rest[0])
        return cls(name, signature[:KEY_HASH_BYTES], signature[KEY_HASH_BYTES:])

    def line(self) -> str:
        """The line without its end: em dash, space, name, space, base64."""
        return f"{_PREFIX}{self.name} {base64.b64encode(self.key_hash + self.signature).decode()}"


class Signer:
    """Signs notes under a name with an Ed25519 seed (32 bytes)."""

    def __init__(self, name: str, seed: bytes) -> None:
        """Raises NoteInvalid for a name that cannot stand in a note, ValueError for a seed of another length."""
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self._verifier_key = VerifierKey.ed25519(name, self._key.public_key().public_bytes_raw())

    @property
    def verifier_key(self) -> VerifierKey:
        """What checks this signer's notes."""
        return self._verifier_key

    def sign(self, text: str) -> NoteSignature:
        """The signature over a note's text, which ends with a newline."""
        key = self._verifier_key
        return NoteSignature(key.name, key.key_hash, self._key.sign(text.encode()))


@dataclass(frozen=True, slots=True)
class SignedNote:
    """A note: its text, newline at the end included, and its signatures in order; always one that can be written."""

    text: str
    signatures: tuple[NoteSignature, ...]

    def __post_init__(self) -> None:
        if not self.text.endswith("\n") or _NOT_IN_A_NOTE.search(self.text):
            raise NoteInvalid(
                "a note's text is UTF-8, ends with a newline and holds no other control characters"
            )
        if not 1 <= len(self.signatures) <= MAX_SIGNATURES:
            raise NoteInvalid(f"a note has 1 to {MAX_SIGNATURES} signatures")
        if len(self.encode()) > MAX_NOTE_BYTES:
            raise NoteInvalid(f"a note has at most {MAX_NOTE_BYTES} bytes")

    @classmethod
    def parse(cls, note: bytes) -> SignedNote:
        """Read a note; raises NoteInvalid. That says nothing of its signatures: see `is_signed_by`."""
        if len(note) > MAX_NOTE_BYTES:
            raise NoteInvalid(f"a note has at most {MAX_NOTE_BYTES} bytes")
        try:
            decoded = note.decode()
        except UnicodeDecodeError as error:
            raise NoteInvalid("a note is UTF-8") from error
        text, blank, signatures = decoded.rpartition("\n\n")
        if not blank or not signatures.endswith("\n"):
            raise NoteInvalid("a note is a text, a blank line, and signature lines that end with a newline")
        lines = signatures[:-1].split("\n")
        if len(lines) > MAX_SIGNATURES:
            raise NoteInvalid(f"a note has at most {MAX_SIGNATURES} signatures")
        return cls(text + "\n", tuple(NoteSignature.parse(line) for line in lines))

    def encode(self) -> bytes:
        """The note in UTF-8."""
        lines = "".join(f"{signature.line()}\n" for signature in self.signatures)
        return f"{self.text}\n{lines}".encode()

    def signature_of(self, key: VerifierKey) -> bytes | None:
        """This key's signature, not verified, or None; raises NoteInvalid if there are several."""
        found = [s.signature for s in self.signatures if (s.name, s.key_hash) == (key.name, key.key_hash)]
        if len(found) > 1:
            raise NoteInvalid(f"the note has several signatures of {shown(key.name)}")
        return found[0] if found else None

    def is_signed_by(self, key: VerifierKey) -> bool:
        """Whether a key has signed the text; raises NoteInvalid for a signature of it that does not verify."""
        if key.algorithm != ED25519:
            raise NoteInvalid(f"the key {shown(key.name)} is for cosignatures, not for notes")
        signature = self.signature_of(key)
        if signature is None:
            return False
        key.verify(self.text.encode(), signature)
        return True


def from_base64(text: str) -> bytes:
    """Standard base64 (RFC 4648 §4) in its one form, padded and the bits of the padding zero; raises NoteInvalid."""
    try:
        decoded = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise NoteInvalid("a key, signature or root is not base64") from error
    if base64.b64encode(decoded).decode() != text:
        raise NoteInvalid("a key, signature or root is not base64 in its canonical form")
    return decoded


def shown(name: str) -> str:
    """A key's name for an error: it may come from a note that nobody has verified, so it is cut short and escaped."""
    return repr(name[:80])


def _check_name(name: str) -> None:
    if not name or "+" in name or _NOT_IN_A_NOTE.search(name) or any(map(str.isspace, name)):
        raise NoteInvalid("a key's name is not empty and holds no space, plus or control character")
