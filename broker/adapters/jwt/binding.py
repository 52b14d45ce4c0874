"""Certificate-bound tokens (RFC 8705 §3.1)."""

from __future__ import annotations

import base64
import hashlib


def certificate_thumbprint(certificate_der: bytes) -> str:
    """`x5t#S256`: base64url, without padding, of the SHA-256 of the DER certificate."""
    return base64.urlsafe_b64encode(hashlib.sha256(certificate_der).digest()).rstrip(b"=").decode()
