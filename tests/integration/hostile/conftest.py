"""The same exchange as the other tests at the wire: real TLS, real OPA, the embedded stores."""

from __future__ import annotations

from tests.integration.exchange.conftest import live

__all__ = ["live"]
