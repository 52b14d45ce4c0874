"""Which addresses a witness's service may have."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit


class UrlRefused(ValueError):
    """The address of a witness cannot be used; what is wrong with it, and what to do."""


def check_url(url: str, *, insecure_http_loopback: bool) -> None:
    """Raises UrlRefused unless it is https, or http to this machine where that is permitted; without credentials."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise UrlRefused("is no URL; write one such as https://witness.example") from None
    if not host or parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise UrlRefused("needs a host, and no credentials, query or fragment; correct it")
    if parts.scheme == "https" or (parts.scheme == "http" and insecure_http_loopback and is_loopback(host)):
        return
    raise UrlRefused(
        "must begin with https://; http:// is for this machine only, with insecure_http_loopback"
    )


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine's own."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
