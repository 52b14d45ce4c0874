"""Signed statements about a tree: C2SP signed notes, checkpoints, and witnesses' cosignatures."""
