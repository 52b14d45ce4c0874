"""The rulebook: reading, checking and registering one revision."""
