"""`python -m broker.cli`: the same as `entente`."""

from __future__ import annotations

from broker.cli import main

main()
