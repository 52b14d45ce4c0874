"""Moves records between the exchange and directories of JSON and JSONL files."""
