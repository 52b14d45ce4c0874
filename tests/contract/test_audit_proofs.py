"""Proofs for outsiders: they show what they say, nothing besides, and nobody can make one up."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import orjson
import pytest

from broker.adapters.export.index import SqliteAuditIndex
from broker.core.audit.kinds import CONSUMER_PARTS, KINDS
from broker.core.audit.proof_file import ProofFile
from broker.core.audit.proofs import (
    ProofRefused,
    PublisherPart,
    ReceiverPart,
    RecordPart,
    check,
    prove,
)
from broker.core.checkpoint.cosignature import Cosigner
from broker.core.checkpoint.note import SignedNote, Signer, VerifierKey
from broker.core.ledger.leaf import read_openings
from broker.model.ledger import JsonValue
from tests.fakes.ledgers import EXCHANGE, PEOPLE, FakeLedgers, FakeReader, make_ledgers

HIDDEN = KINDS["delivery"] - CONSUMER_PARTS - {"handed_out"}


@dataclass(frozen=True)
class Ledger:
    """Made-up ledgers with a reader and an index."""

    ledgers: FakeLedgers
    reader: FakeReader
    index: SqliteAuditIndex

    async def prove(
        self, instance: str, number: int, part: ReceiverPart | RecordPart | PublisherPart | None = None
    ) -> bytes:
        return await prove(self.reader, self.index, instance, number, part)

    def find(self, kind: str, which: Callable[[dict[str, Any]], bool] = lambda _: True) -> int:
        """The last entry of the instance `broker` that is of a kind and fits."""
        plain = self.ledgers.instances["broker"].plain
        return max(n for n, e in enumerate(plain) if e.kind == kind and which(cast(dict[str, Any], e.body)))

    def body(self, number: int) -> dict[str, Any]:
        return cast(dict[str, Any], self.ledgers.instances["broker"].plain[number].body)


async def opened(ledgers: FakeLedgers, path: Path) -> Ledger:
    index = await SqliteAuditIndex.open(path, EXCHANGE)
    reader = ledgers.reader()
    await index.update(reader)
    return Ledger(ledgers, reader, index)


@pytest.fixture(scope="module")
def made() -> FakeLedgers:
    return make_ledgers(seed=61, rounds=200)


@pytest.fixture
async def ledger(made: FakeLedgers, tmp_path: Path) -> AsyncIterator[Ledger]:
    found = await opened(made, tmp_path / "index.sqlite")
    yield found
    await found.index.close()


def own_part(row: dict[str, Any]) -> ReceiverPart:
    return ReceiverPart(row["subject"], row["subscription"], row["stream"])


class TestWhole:
    async def test_every_kind_of_entry(self, ledger: Ledger) -> None:
        instance = ledger.ledgers.instances["broker"]
        for kind in sorted({entry.kind for entry in instance.plain}):
            number = ledger.find(kind)
            proof = check(await ledger.prove("broker", number), ledger.ledgers.keys)
            entry = instance.plain[number]
            assert (proof.instance, proof.index, proof.kind) == ("broker", number, kind)
            assert (proof.time_ms, dict(proof.parts), proof.whole) == (entry.time_ms, dict(entry.body), True)
            assert proof.checkpoint.size > number
            assert proof.signed_by

    async def test_without_keys_it_only_fits_together(self, ledger: Ledger) -> None:
        assert check(await ledger.prove("broker", 3), []).signed_by == ()

    async def test_it_names_the_keys_that_signed(self, ledger: Ledger) -> None:
        document = await ledger.prove("broker", 3)
        (signed,) = check(document, ledger.ledgers.keys).signed_by
        key = VerifierKey.parse(signed)
        assert check(document, [key]).signed_by == (signed,)
        assert check(document, [key.named("another-name")]).signed_by == (key.named("another-name").text(),)
        with pytest.raises(ProofRefused):
            check(document, [Signer("stranger", bytes(32)).verifier_key])

    async def test_a_witness_must_have_cosigned_if_its_key_is_given(self, ledger: Ledger) -> None:
        mine, other = (Cosigner(f"{n}.example/w", bytes([n]) * 32) for n in (1, 2))
        proof = ProofFile.read(await ledger.prove("broker", 3))
        note = SignedNote.parse(proof.checkpoint)
        cosigned = SignedNote(note.text, (*note.signatures, mine.cosign(note.text, 1_767_225_600))).encode()
        document, keys = replace(proof, checkpoint=cosigned).encode(), ledger.ledgers.keys
        assert check(document, keys, [other.verifier_key, mine.verifier_key]).cosigned_by == (
            mine.verifier_key.text(),
        )
        assert check(document, keys).cosigned_by == ()
        for refused in (document, proof.encode()):
            with pytest.raises(ProofRefused, match="cosigned by none"):
                check(refused, keys, [other.verifier_key])
        with pytest.raises(ProofRefused, match="cosigned by none"):
            check(proof.encode(), keys, [mine.verifier_key])


class TestParts:
    async def test_a_receiver_sees_its_own_part_of_a_delivery(self, ledger: Ledger) -> None:
        number = ledger.find("delivery", lambda body: len(body["receivers"]) > 1)
        body = ledger.body(number)
        for row in body["receivers"]:
            document = await ledger.prove("broker", number, own_part(row))
            proof = check(document, ledger.ledgers.keys)
            assert not proof.whole
            assert proof.parts == {"class": body["class"], "count": body["count"], "receivers": row}
            for other in body["receivers"]:
                assert (other["stream"].encode() in document) == (other is row)

    async def test_nothing_else_can_be_learned_of_it(self, ledger: Ledger) -> None:
        """Neither what is hidden, nor its salts, nor the entry's salt, from which all others follow."""
        for number in [
            n for n, e in enumerate(ledger.ledgers.instances["broker"].plain) if e.kind == "delivery"
        ]:
            body = ledger.body(number)
            encoded = ledger.reader.entries["broker"][number]
            document = await ledger.prove("broker", number, own_part(body["receivers"][0]))
            items = ProofFile.read(document).items
            assert [item.part for item in items] == ["receivers", "shown"]
            openings = read_openings(encoded.openings)
            assert openings.salt not in {item.salt for item in items}
            for name in HIDDEN:
                content = openings.parts[name][0]
                assert len(content) < 8 or orjson.dumps(content.decode())[1:-1] not in document
            assert b"sha256:" not in document  # the revision
            assert b"agreement-7" not in document  # a decision's reason
            assert b'\\"next\\"' not in document  # a standing

    async def test_one_record_of_a_publish_call(self, ledger: Ledger) -> None:
        number = ledger.find("publish", lambda body: len(body["records"]) > 2)
        body = ledger.body(number)
        row = body["records"][1]
        document = await ledger.prove("broker", number, RecordPart(row["source"], row["id"]))
        proof = check(document, ledger.ledgers.keys)
        assert (proof.parts, proof.whole) == ({"records": row}, False)
        for other in body["records"]:
            if other is not row and "id" in other:
                assert other["id"].encode() not in document
        assert b"feed-of" not in document

    async def test_the_publishers_own_part(self, ledger: Ledger) -> None:
        number = ledger.find("publish", lambda body: len(body["records"]) > 2)
        body = ledger.body(number)
        document = await ledger.prove("broker", number, PublisherPart())
        proof = check(document, ledger.ledgers.keys)
        assert proof.parts == {name: body[name] for name in ("call", "records", "who")}
        assert b"sha256:" not in document and b"agreement-7" not in document

    async def test_what_an_entry_does_not_name(self, ledger: Ledger) -> None:
        delivery, publish = ledger.find("delivery"), ledger.find("publish")
        for number, part in (
            (delivery, ReceiverPart("nobody", "")),
            (delivery, RecordPart("//a/b", "c")),
            (delivery, PublisherPart()),
            (publish, RecordPart("//a/b", "c")),
            (publish, ReceiverPart("nobody", "")),
            (ledger.find("moved"), ReceiverPart("nobody", "")),
        ):
            with pytest.raises(ProofRefused):
                await ledger.prove("broker", number, part)

    async def test_who_is_named_twice_says_which_stream(self, tmp_path: Path) -> None:
        ledgers = FakeLedgers(seed=4, withhold=False)
        broker = ledgers.instances["broker"]
        ledgers.publish(broker, "indicators", 2)
        one, other = (ledgers.open(broker, PEOPLE[0], "indicators") for _ in range(2))
        ledgers.deliver(broker, one)
        ledgers.finish()
        ledger = await opened(ledgers, tmp_path / "index.sqlite")
        number = ledger.find("delivery")
        with pytest.raises(ProofRefused):
            await ledger.prove("broker", number, ReceiverPart("analyst-1", ""))
        for stream in (one.stream, other.stream):
            proof = check(await ledger.prove("broker", number, ReceiverPart("analyst-1", "", stream)), [])
            assert cast(dict[str, JsonValue], proof.parts["receivers"])["stream"] == stream
        await ledger.index.close()

    async def test_it_is_the_same_whether_or_not_something_was_withheld(self, tmp_path: Path) -> None:
        """Two exchanges that differ in hidden records only hand out proofs of one form and one length."""
        shapes = []
        for hidden in (0, 1, 40):
            ledgers = FakeLedgers(seed=4)
            broker = ledgers.instances["broker"]
            person = PEOPLE[0]
            stream = ledgers.open(broker, person, "indicators", "main")
            ledgers.random.choice = lambda options: "clear" if "clear" in options else options[0]  # type: ignore[method-assign]
            ledgers.publish(broker, "indicators", 3)
            ledgers.random.choice = lambda options: "red" if "red" in options else options[0]  # type: ignore[method-assign]
            for _ in range(hidden):
                ledgers._store("indicators", "cyber-centre")
            ledgers.random.random = lambda: 0.9  # type: ignore[method-assign]
            ledgers.deliver(broker, stream, limit=100)
            ledgers.finish()
            ledger = await opened(ledgers, tmp_path / f"{hidden}.sqlite")
            number = ledger.find("delivery")
            withheld = ledger.body(number)["considered"][0]["outcomes"].get("withhold", 0)
            assert withheld == hidden
            document = await ledger.prove("broker", number, ReceiverPart("analyst-1", "main"))
            check(document, ledgers.keys)
            shapes.append(shape(orjson.loads(document)))
            assert len(document) == len(
                await ledger.prove("broker", number, ReceiverPart("analyst-1", "main"))
            )
            await ledger.index.close()
        assert shapes[0] == shapes[1] == shapes[2]


def shape(value: Any) -> Any:
    """A value with all text replaced by its length; numbers count."""
    if isinstance(value, dict):
        return {name: shape(member) for name, member in value.items()}
    if isinstance(value, list):
        return [shape(member) for member in value]
    return len(value) if isinstance(value, str) else value


class TestRefused:
    async def test_an_entry_without_a_checkpoint_yet(self, made: FakeLedgers, tmp_path: Path) -> None:
        index = await SqliteAuditIndex.open(tmp_path / "index.sqlite", EXCHANGE)
        reader = made.reader()
        reader.stored["broker"] = reader.stored["broker"][:5]
        await index.update(reader)
        last = len(reader.entries["broker"]) - 1
        with pytest.raises(ProofRefused):
            await prove(reader, index, "broker", last)
        check(await prove(reader, index, "broker", 0), made.keys)
        await index.close()

    async def test_an_erased_entry(self, made: FakeLedgers, tmp_path: Path) -> None:
        index = await SqliteAuditIndex.open(tmp_path / "index.sqlite", EXCHANGE)
        reader = made.reader()
        reader.change("broker", 7, openings=b"")
        await index.update(reader)
        with pytest.raises(ProofRefused):
            await prove(reader, index, "broker", 7)
        await index.close()

    async def test_every_changed_character(self, ledger: Ledger) -> None:
        chance = random.Random(1)
        delivery = ledger.find("delivery", lambda body: len(body["receivers"]) > 1)
        row = ledger.body(delivery)["receivers"][0]
        documents = [
            await ledger.prove("broker", delivery),
            await ledger.prove("broker", delivery, own_part(row)),
            await ledger.prove("broker", ledger.find("publish"), PublisherPart()),
        ]
        for document in documents:
            check(document, ledger.ledgers.keys)
            for at in chance.sample(range(len(document)), 250):
                changed = bytearray(document)
                changed[at] ^= 1 << chance.randrange(7)
                with pytest.raises(ProofRefused):
                    check(bytes(changed), ledger.ledgers.keys)

    async def test_anything_that_is_added(self, ledger: Ledger) -> None:
        number = ledger.find("delivery", lambda body: len(body["receivers"]) > 1)
        row = ledger.body(number)["receivers"][0]
        document = await ledger.prove("broker", number, own_part(row))
        content = orjson.loads(document)
        own, shown = content["items"]
        for changed in (
            content | {"note": "this proves it"},
            content | {"items": [*content["items"], shown]},
            content | {"items": [own]},
            content | {"items": [shown]},
            content | {"items": content["items"][::-1]},
            content | {"items": []},
            content | {"openings": ""},
            content | {"path": [*content["path"], "00" * 32]},
            content | {"checkpoint": content["checkpoint"] + "— more AAAA\n"},
            content | {"items": [own | {"more": 1}, shown]},
            content | {"items": [own | {"number": float(own["number"])}, shown]},
            {name: value for name, value in content.items() if name != "path"},
        ):
            with pytest.raises(ProofRefused):
                check(written(changed), ledger.ledgers.keys)
        for other in (document + b"\n", b" " + document, orjson.dumps(content), b"", b"[]", b"null", b"\xff"):
            with pytest.raises(ProofRefused):
                check(other, ledger.ledgers.keys)
        assert check(written(content), ledger.ledgers.keys).index == number

    async def test_a_part_that_consumers_do_not_see(self, ledger: Ledger) -> None:
        """Nobody can pass on a proof of it either: what opens more than a part is refused."""
        number = ledger.find("delivery")
        encoded = ledger.reader.entries["broker"][number]
        whole = ProofFile.read(await ledger.prove("broker", number))
        part = ProofFile.read(
            await ledger.prove("broker", number, own_part(ledger.body(number)["receivers"][0]))
        )
        from broker.core.audit.proof_file import Item

        ((salt, text),) = read_openings(encoded.openings).groups()["sealed"]
        assert all(b'["%b",' % name.encode() in text for name in HIDDEN)
        extra = Item("sealed", 0, 1, salt, text, ())
        for items in ((*part.items, extra), (extra,), (extra, *part.items[1:]), (part.items[0], extra)):
            with pytest.raises(ProofRefused):
                check(replace(whole, openings=None, items=items).encode(), ledger.ledgers.keys)

    async def test_a_proof_of_another_entry_or_instance(self, ledger: Ledger) -> None:
        one = ProofFile.read(await ledger.prove("broker", 10))
        other = ProofFile.read(await ledger.prove("broker", 11))
        second = ProofFile.read(await ledger.prove("second", 10))
        for mixed in (
            replace(one, leaf=other.leaf),
            replace(one, openings=other.openings),
            replace(one, path=other.path),
            replace(one, checkpoint=second.checkpoint),
            replace(second, checkpoint=one.checkpoint),
        ):
            with pytest.raises(ProofRefused):
                check(mixed.encode(), ledger.ledgers.keys)

    async def test_a_row_under_another_number(self, ledger: Ledger) -> None:
        number = ledger.find("publish", lambda body: len(body["records"]) > 2)
        row = ledger.body(number)["records"][1]
        proof = ProofFile.read(await ledger.prove("broker", number, RecordPart(row["source"], row["id"])))
        (item,) = proof.items
        for other in (replace(item, number=0), replace(item, count=1), replace(item, path=())):
            with pytest.raises(ProofRefused):
                check(replace(proof, items=(other,)).encode(), [])


def written(content: dict[str, Any]) -> bytes:
    return orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
