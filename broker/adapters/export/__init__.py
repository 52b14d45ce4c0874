"""Exports of the ledger: a directory that holds all that auditing needs, and the SQLite index of ledgers."""
