"""What an auditor trusts, which comes from outside the ledger: public keys, and checkpoints that a witness kept."""

from __future__ import annotations

from dataclasses import dataclass

from broker.core.checkpoint.note import NoteInvalid, VerifierKey


@dataclass(frozen=True, slots=True)
class Trust:
    """keys: the exchange's ledger keys, under any name. after: witnessed checkpoints (signed notes), of any instances.

    witnesses: the public keys of those who cosign; where there are any, each note of `after` must bear one's cosignature.
    instances: names of instances that the exchange has, as far as somebody knows them.
    """

    keys: tuple[VerifierKey, ...] = ()
    after: tuple[bytes, ...] = ()
    witnesses: tuple[VerifierKey, ...] = ()
    instances: tuple[str, ...] = ()


def read_keys(text: str) -> tuple[VerifierKey, ...]:
    """The keys of a file such as `ledger.vkey`: one verifier key on each line. Raises NoteInvalid."""
    lines = [line.strip() for line in text.splitlines()]
    keys = tuple(VerifierKey.parse(line) for line in lines if line)
    if not keys:
        raise NoteInvalid("the file holds no verifier key")
    return keys
