"""Runs connectors: programs on a partner's side that move records between the exchange and its own systems."""
