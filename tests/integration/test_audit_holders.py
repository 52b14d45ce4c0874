"""Receipts that their holders bring back: every one of a made-up exchange, and every way in which one can be unsound."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from broker.adapters.export.index import SqliteAuditIndex
from broker.core.audit import holders as holders_module
from broker.core.audit.holders import CheckedReceipt, HolderDesk, Standing
from broker.core.audit.proof_file import ProofFile
from broker.core.audit.proofs import ProofRefused, check
from broker.core.audit.receipts import ReceiptsChecked
from broker.core.audit.receipts_asked import Ask, check_answers
from broker.core.checkpoint.note import Signer, VerifierKey
from broker.core.ledger.handed_out import content_digest, root_under
from broker.core.ledger.leaf import read_leaf
from broker.core.ledger.receipt import Receipt, ReceiptCodec
from broker.errors import EntenteError
from broker.model.principal import Principal
from tests.fakes.auditing import readings
from tests.fakes.delivery import FixedKeys, MemoryLedger
from tests.fakes.ledgers import EXCHANGE, FakeLedgers, FakeReader, Handed, Instance, make_ledgers

CODEC = ReceiptCodec(FixedKeys())


class Counter:
    """The desk of a made-up exchange."""

    def __init__(self, ledgers: FakeLedgers, index: SqliteAuditIndex) -> None:
        self.ledgers = ledgers
        self.reader: FakeReader = ledgers.reader()
        self.own = MemoryLedger()
        self.desk = HolderDesk(readings(self.reader, index, ledger=self.own), CODEC)
        self.keys = [key for instance in ledgers.instances.values() for key in keys_of(instance)]

    async def check(self, handed: Handed, *receipts: bytes) -> list[CheckedReceipt]:
        """As the holder; its own receipt unless told."""
        return await self.desk.check(holder(handed), receipts or (seal(handed),))


def keys_of(instance: Instance) -> list[VerifierKey]:
    """All that ever signed."""
    changes: list[Any] = [each.body["change"] for each in instance.plain if each.kind == "key_rotated"]
    return [
        *(VerifierKey.parse(change["from"]["key"]) for change in changes),
        instance.signer.verifier_key,
    ]


def holder(handed: Handed) -> Principal:
    """An ordinary caller."""
    now = datetime.now(UTC)
    return Principal(handed.agency, handed.subject, ("analyst",), (), {}, "token", now)


def seal(handed: Handed, **changes: Any) -> bytes:
    place = replace(handed.place, **changes)
    return CODEC.seal(Receipt(place, handed.secret), handed.agency, handed.subject)


@pytest.fixture
async def counter(tmp_path: Path) -> AsyncIterator[Counter]:
    index = await SqliteAuditIndex.open(tmp_path / "index.sqlite", EXCHANGE)
    yield Counter(make_ledgers(seed=21, rounds=150), index)
    await index.close()


def of_kind(counter: Counter, kind: str) -> list[Handed]:
    return [handed for handed in counter.ledgers.handed if handed.kind == kind]


async def test_every_batch_is_found_with_what_it_held(counter: Counter) -> None:
    batches = of_kind(counter, "delivery")
    assert len(batches) > 20
    for handed in batches:
        (found,) = await counter.check(handed)
        assert (found.standing, found.place) == (Standing.LOGGED, handed.place)
        contents = [bytes.fromhex(str(content)) for content in handed.contents]
        root = root_under(found.digest_keys, contents)
        assert found.proofs
        for document in found.proofs:
            proof = check(document, counter.keys)
            assert set(proof.parts) == {"class", "count", "receivers"}
            assert proof.parts["receivers"]["subject"] == handed.subject  # type: ignore[index,call-overload]
            leaf = read_leaf(ProofFile.read(document).leaf)
            assert leaf.parts["handed_out"] == root


async def test_every_publish_call_is_found_with_its_rows(counter: Counter) -> None:
    calls = of_kind(counter, "publish")
    assert len(calls) > 20
    for handed in calls:
        (found,) = await counter.check(handed)
        assert found.standing is Standing.LOGGED
        (document,) = found.proofs
        proof = check(document, counter.keys)
        assert set(proof.parts) == {"call", "records", "who"}
        rows: Any = proof.parts["records"]
        assert len(rows) == len(found.digest_keys)
        published: Any = handed.contents
        for (source, name, content), row, key in zip(published, rows, found.digest_keys, strict=False):
            assert (row["source"], row["id"]) == (source, name)
            assert row["digest"] == content_digest(key, bytes.fromhex(content)).hex()


async def test_what_was_never_logged_or_was_changed_is_told(counter: Counter) -> None:
    handed = of_kind(counter, "delivery")[0]
    size = len(counter.ledgers.instances[handed.place.instance].entries)
    for changes in (
        {"leaf_hash": b"\0" * 32},
        {"index": handed.place.index + 1},
        {"index": size},
        {"index": 2**63},
        {"instance": "no-such-instance"},
    ):
        (found,) = await counter.check(handed, seal(handed, **changes))
        assert found == CheckedReceipt(Standing.NOT_LOGGED, replace(handed.place, **changes))


async def test_other_holders_receipts_are_no_receipts(counter: Counter) -> None:
    first = counter.ledgers.handed[0]
    other = next(each for each in counter.ledgers.handed if each.agency != first.agency)
    colleague = replace(first, subject="somebody-else")
    for handed in (other, colleague):
        assert await counter.check(handed, seal(first)) == [CheckedReceipt(Standing.UNKNOWN)]
    sealed = bytearray(seal(first))
    sealed[40] ^= 1
    unreadable: Sequence[bytes] = (b"", bytes(sealed), seal(first)[:-1], seal(first) + b"\0")
    assert await counter.check(first, *unreadable) == [CheckedReceipt(Standing.UNKNOWN)] * 4


async def test_answers_stand_in_the_order_of_the_receipts(counter: Counter) -> None:
    mine = [each for each in counter.ledgers.handed if each.subject == "paramedic-1"][:5]
    sealed = [seal(each) for each in mine]
    found = await counter.check(mine[0], sealed[1], b"?", *sealed[2:])
    assert [each.place for each in found] == [mine[1].place, None, *(each.place for each in mine[2:])]


async def test_an_entry_beyond_the_last_checkpoint_is_pending(counter: Counter) -> None:
    handed = counter.ledgers.handed[-1]
    stored = counter.reader.stored[handed.place.instance]
    del stored[len(stored) // 2 :]
    assert await counter.check(handed) == [CheckedReceipt(Standing.PENDING, handed.place)]


async def test_what_is_not_kept_any_more_has_expired(counter: Counter) -> None:
    handed = counter.ledgers.handed[0]
    name = handed.place.instance
    gone = handed.place.index + 1
    del counter.reader.entries[name][:gone]
    counter.reader.first[name] = gone
    counter.reader.stored[name] = [
        stored for stored in counter.reader.stored[name] if int(stored.note.splitlines()[1]) >= gone
    ]
    assert await counter.check(handed) == [CheckedReceipt(Standing.EXPIRED, handed.place)]


async def test_looking_up_is_in_the_ledger_and_says_no_more_than_how_many(counter: Counter) -> None:
    handed = counter.ledgers.handed[0]
    await counter.check(handed, b"?", seal(handed))
    (entry,) = counter.own.entries
    assert entry.body["query"] == {"method": "CheckReceipts", "about": {"receipts": 2}}
    counter.own.failures = 1
    with pytest.raises(EntenteError, match="nothing goes out unaccounted"):
        await counter.check(handed)


async def test_an_answer_is_bounded(counter: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holders_module, "ANSWER_BYTES", 5_000)
    handed = of_kind(counter, "publish")[0]
    with pytest.raises(EntenteError, match="5000 bytes in one answer"):
        await counter.check(handed, *[seal(handed)] * 5)


# ---- the publisher's part in a proof ----


async def publisher_s(counter: Counter) -> ProofFile:
    calls = [each for each in of_kind(counter, "publish") if len(each.contents) > 2]
    (found,) = await counter.check(calls[0])
    return ProofFile.read(found.proofs[0])


async def test_a_publisher_s_proof_shows_all_rows_or_none(counter: Counter) -> None:
    proof = await publisher_s(counter)
    call, who, *rows = proof.items
    forged = replace(rows[0], content=rows[0].content.replace(b'"duplicate":false', b'"duplicate":true'))
    for items in (
        (call, who),
        (call, who, *rows[:-1]),
        (call, who, *rows[1:]),
        (call, who, *reversed(rows)),
        (call, who, *rows, rows[0]),
        (who, call, *rows),
        (call, *rows),
        (who, *rows),
        tuple(rows),
        (call, who, forged, *rows[1:]),
        (call, who, *(replace(row, count=row.count + 1) for row in rows)),
        (call, who, replace(rows[0], salt=b"\0" * 32), *rows[1:]),
        (call, who, replace(rows[0], content=rows[1].content), *rows[1:]),
        (call, replace(who, part="rules"), *rows),
    ):
        with pytest.raises(ProofRefused):
            check(replace(proof, items=items).encode(), counter.keys)
    assert check(proof.encode(), counter.keys).kind == "publish"


# ---- held against what the exchange answers ----


def line_of(handed: Handed, **changes: Any) -> bytes:
    """As the client keeps it."""
    kept = {
        "agency": handed.agency,
        "subject": handed.subject,
        "kind": handed.kind,
        "topic": handed.topic,
        "receipt": base64.b64encode(seal(handed)).decode(),
        "contents": handed.contents,
    }
    return orjson.dumps({**kept, **changes})


async def asked(
    counter: Counter, kept: Sequence[bytes], caller: Handed, ask: Ask | None = None, keys: Any = None
) -> ReceiptsChecked:
    """A receipts file, by one holder."""

    async def lines() -> AsyncIterator[bytes]:
        for each in kept:
            yield each

    async def from_the_desk(receipts: Sequence[bytes]) -> Sequence[CheckedReceipt]:
        return await counter.desk.check(holder(caller), receipts)

    return await check_answers(lines(), ask or from_the_desk, counter.keys if keys is None else keys)


async def test_an_exchange_proves_what_it_handed_out_and_took(counter: Counter) -> None:
    by_holder: dict[tuple[str, str], list[Handed]] = {}
    for each in counter.ledgers.handed:
        by_holder.setdefault((each.agency, each.subject), []).append(each)
    assert len(by_holder) > 3
    for mine in by_holder.values():
        found = await asked(counter, [line_of(each) for each in mine], mine[0])
        assert (found.checked, found.sound, found.findings) == (len(mine), len(mine), ())


@pytest.mark.parametrize("kind", ["delivery", "publish"])
async def test_what_differs_from_what_was_kept_is_found_with_its_line(counter: Counter, kind: str) -> None:
    handed = next(each for each in of_kind(counter, kind) if len(each.contents) > 1)
    other = of_kind(counter, "publish" if kind == "delivery" else "delivery")[0]
    changed: Any = list(handed.contents)
    changed[0] = "00" * 32 if kind == "delivery" else [*changed[0][:2], "00" * 16]
    lines = [
        line_of(handed),
        line_of(handed, contents=changed),
        line_of(handed, contents=[*handed.contents, changed[0]]),
        line_of(handed, topic="another"),
        line_of(handed, agency="another"),
        line_of(handed, kind=other.kind),
        line_of(handed, receipt=base64.b64encode(seal(handed, index=10**6)).decode()),
        line_of(handed, receipt=""),
        line_of(other),
        b"{}",
        b"no json",
        line_of(handed),
    ]
    found = await asked(counter, lines, handed)
    assert (found.checked, found.sound) == (len(lines), 2)
    assert [finding.what.split(":")[0] for finding in found.findings if "no line of" not in finding.what] == [
        f"line {number}" for number in range(2, 10)
    ]
    assert {finding.severity.value for finding in found.findings} == {"fault"}


async def test_an_exchange_that_proves_something_else_is_found(counter: Counter) -> None:
    """The proof of another batch, of another's part, places of its own, no proof, or no answer at all."""
    batches = [each for each in of_kind(counter, "delivery") if each.subject == "paramedic-1"]
    mine, another = batches[0], batches[-1]
    (true,), (other,) = await counter.check(mine), await counter.check(another)
    publish = of_kind(counter, "publish")[0]
    (published,) = await counter.check(publish)
    for lie in (
        other,
        published,
        replace(true, proofs=other.proofs),
        replace(true, proofs=(*true.proofs, *other.proofs)),
        replace(true, proofs=published.proofs),
        replace(true, proofs=(b"{}",)),
        replace(true, digest_keys=other.digest_keys),
        replace(true, digest_keys=()),
        replace(true, standing=Standing.NOT_LOGGED),
        CheckedReceipt(Standing.UNKNOWN),
        None,
    ):

        async def ask(receipts: Sequence[bytes], lie: Any = lie) -> Sequence[CheckedReceipt]:
            return [] if lie is None else [lie]

        found = await asked(counter, [line_of(mine)], mine, ask)
        assert (found.checked, found.sound) == (1, 0)
        assert [finding.severity.value for finding in found.findings] == ["fault"]
    stranger = Signer("stranger", b"\x05" * 32).verifier_key
    assert (await asked(counter, [line_of(mine)], mine, keys=[stranger])).sound == 0


@pytest.mark.parametrize("standing", [Standing.PENDING, Standing.EXPIRED])
async def test_what_cannot_be_said_yet_or_any_more_is_no_fault(counter: Counter, standing: Standing) -> None:
    handed = counter.ledgers.handed[0]

    async def ask(receipts: Sequence[bytes]) -> Sequence[CheckedReceipt]:
        return [CheckedReceipt(standing, handed.place)] * len(receipts)

    found = await asked(counter, [line_of(handed)] * 25, handed, ask)
    assert (found.checked, found.sound) == (25, 0)
    assert {finding.severity.value for finding in found.findings} == {"remark"}


async def test_erased_contents_are_no_fault_and_not_sound(counter: Counter) -> None:
    handed = of_kind(counter, "delivery")[0]
    counter.reader.change(handed.place.instance, handed.place.index, openings=b"")
    (answer,) = await counter.check(handed)
    assert (answer.standing, answer.proofs, answer.digest_keys) == (Standing.LOGGED, (), ())
    found = await asked(counter, [line_of(handed)], handed)
    assert found.sound == 0
    assert [finding.severity.value for finding in found.findings] == ["remark"]
