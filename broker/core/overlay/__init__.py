"""Overlays: what is suspended and withdrawn, how that comes about, and what it restricts (events: docs/control.md)."""
