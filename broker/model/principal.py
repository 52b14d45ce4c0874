"""Who calls: principals and the class that a decision depends on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Credential:
    """What a token was accepted by: enough to ask whether it still would be, and nothing that anybody could use.

    key_digest: SHA-256 of the public key's DER form. lifetime_s: from `iat` to `exp`.
    """

    issuer: str
    key_id: str
    algorithm: str
    key_digest: bytes
    lifetime_s: int


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated caller. The agency is the one whose registered issuer signed the token (design rule 7).

    credential: of the token; without one nobody can confirm the principal under later rules.
    """

    agency: str
    subject: str
    roles: tuple[str, ...]
    purposes: tuple[str, ...]
    attributes: Mapping[str, str]
    token_id: str
    expires_at: datetime
    certificate_thumbprint: str | None = None
    credential: Credential | None = None

    @property
    def key(self) -> tuple[str, str]:
        """What identifies the principal across tokens: agency and subject id."""
        return (self.agency, self.subject)

    def subject_class(self, purpose: str) -> SubjectClass:
        """The class under which this principal is decided when it states `purpose`."""
        return SubjectClass(self.agency, self.roles, tuple(sorted(self.attributes.items())), purpose)


@dataclass(frozen=True, slots=True)
class SubjectClass:
    """Agency, sorted roles, sorted attribute pairs and purpose: all that a `deliver` decision knows of a subject."""

    agency: str
    roles: tuple[str, ...]
    attributes: tuple[tuple[str, str], ...]
    purpose: str

    def as_input(self) -> dict[str, object]:
        """The `subject` member of a decision's input."""
        return {
            "agency": self.agency,
            "roles": list(self.roles),
            "attributes": dict(self.attributes),
            "purpose": self.purpose,
        }
