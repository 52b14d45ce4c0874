"""Receipts against what the exchange itself answers: it has to prove, to those who keep its keys, that it logged them.

Nothing is believed but what a proof shows: the holder's own part of the entry, under the tree of a signed checkpoint.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable, Sequence
from itertools import chain, repeat
from typing import Any

from broker.core.audit.findings import Findings
from broker.core.audit.holders import CheckedReceipt, Standing
from broker.core.audit.proof_file import ProofFile
from broker.core.audit.proofs import CheckedProof, ProofRefused, check
from broker.core.audit.receipts import (
    EXPLAIN,
    ReceiptLine,
    ReceiptsChecked,
    Unsound,
    compare_rows,
    hashes_of,
)
from broker.core.checkpoint.note import VerifierKey
from broker.core.ledger.handed_out import root_under
from broker.core.ledger.leaf import read_leaf
from broker.model.audit import Progress, ProgressCallback

Ask = Callable[[Sequence[bytes]], Awaitable[Sequence[CheckedReceipt]]]
"""Has the exchange look up receipts, as their holder; one answer for each."""

AT_ONCE = 10
"""Receipts in one question: that of a publish call is answered with all rows of the call."""

_UNKNOWN = "the exchange does not know the receipt as one of yours"
_PENDING = "its entry is there, and no signed checkpoint covers it yet"
_EXPIRED = "its entry is older than what the ledger keeps"
_ERASED = "the entry is there, and its contents were erased: what it said cannot be compared"


async def check_answers(
    lines: AsyncIterable[bytes],
    ask: Ask,
    keys: Sequence[VerifierKey],
    progress: ProgressCallback | None = None,
    witnesses: Sequence[VerifierKey] = (),
) -> ReceiptsChecked:
    """Compare each line of a receipts file with what the exchange answers to its receipt.

    keys: without any, what is found sound only fits together. witnesses: with any, each proof's checkpoint must bear a
    cosignature of one.
    """
    work = _Check(keys, witnesses)
    checked = sound = 0
    batch: list[tuple[int, ReceiptLine]] = []
    async for content in lines:
        checked += 1
        line = work.read(checked, content)
        if line is not None:
            batch.append((checked, line))
        if len(batch) == AT_ONCE:
            sound += work.compare(batch, await ask([line.receipt for _, line in batch]))
            batch = []
            if progress is not None:
                progress(Progress("checking receipts", checked))
    if batch:
        sound += work.compare(batch, await ask([line.receipt for _, line in batch]))
    return ReceiptsChecked(checked, sound, tuple(work.findings.kept))


class _Check:
    def __init__(self, keys: Sequence[VerifierKey], witnesses: Sequence[VerifierKey]) -> None:
        self.findings = Findings()
        self._keys = keys
        self._witnesses = witnesses

    def read(self, number: int, content: bytes) -> ReceiptLine | None:
        """None, with a finding, for what is no line of a receipts file."""
        try:
            return ReceiptLine.read(content)
        except ValueError as error:
            self.findings.fault("", None, f"line {number}: {error}", "take the file from the client again")
            return None

    def compare(self, batch: Sequence[tuple[int, ReceiptLine]], answers: Sequence[CheckedReceipt]) -> int:
        """How many lines are sound; a finding says why of each other one."""
        given = chain(answers, repeat(CheckedReceipt(Standing.UNKNOWN)))
        return sum(self._is_sound(number, line, next(given)) for number, line in batch)

    def _is_sound(self, number: int, line: ReceiptLine, answer: CheckedReceipt) -> bool:
        instance = "" if answer.place is None else answer.place.instance
        index = None if answer.place is None else answer.place.index
        at = f"line {number}"
        remark = {Standing.PENDING: _PENDING, Standing.EXPIRED: _EXPIRED}.get(answer.standing)
        if answer.standing is Standing.LOGGED and not answer.proofs:
            remark = _ERASED
        if remark is not None:
            self.findings.remark(instance, index, f"{at}: {remark}", "ask again, and keep the receipt")
            return False
        try:
            if answer.standing is Standing.UNKNOWN:
                raise Unsound(_UNKNOWN)
            if answer.standing is not Standing.LOGGED:
                raise Unsound("it was never logged, or its entry was changed")
            self._prove(line, answer)
        except (Unsound, ProofRefused) as error:
            self.findings.fault(instance, index, f"{at}: {error}", EXPLAIN)
            return False
        return True

    def _prove(self, line: ReceiptLine, answer: CheckedReceipt) -> None:
        """Raises Unsound, ProofRefused unless every proof is about this line."""
        for document in answer.proofs:
            proof = check(document, self._keys, self._witnesses)
            if proof.kind != line.kind:
                raise Unsound(f"the receipt is of a {proof.kind} entry and not of a {line.kind} entry")
            try:
                (_prove_delivery if line.kind == "delivery" else _prove_publish)(
                    line, answer, document, proof
                )
            except (KeyError, TypeError, ValueError):
                raise Unsound("what is proved is not the holder's part of the entry") from None


def _prove_delivery(line: ReceiptLine, answer: CheckedReceipt, document: bytes, proof: CheckedProof) -> None:
    parts: Any = proof.parts
    named = (parts["class"]["agency"], parts["class"]["topic"], parts["receivers"]["subject"])
    if named != (line.agency, line.topic, line.subject):
        raise Unsound("the entry does not name the receipt's holder and topic")
    contents = hashes_of(line, parts["count"])
    if (
        root_under(answer.digest_keys, contents)
        != read_leaf(ProofFile.read(document).leaf).parts["handed_out"]
    ):
        raise Unsound("what was received is not what was logged as handed out")


def _prove_publish(line: ReceiptLine, answer: CheckedReceipt, _: bytes, proof: CheckedProof) -> None:
    parts: Any = proof.parts
    compare_rows(line, parts["who"], parts["call"], parts["records"], answer.digest_keys)
