"""The demonstration: real records, five principals, and what each of them receives."""
