"""Random and mutated messages at every method: never anything but catalogued answers, and a broker that stays as it was."""

from __future__ import annotations

import asyncio
import logging
import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from broker.errors import Reason
from protos.entente.v1 import exchange_pb2
from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent
from tests.fault.test_traffic import at_length
from tests.integration.exchange.failure import failure_of
from tests.integration.exchange.test_bad_messages import METHODS, STREAMS
from tests.services.broker import BrokerProcess, Metadata, opening, vulnerability

log = logging.getLogger(__name__)

LIMITS = {"calls_per_s": 1_000_000, "streams_per_agency": 1_000}
WORKERS = 8
STREAM_S = 0.5
"""A stream that was opened well stays open; so long it is listened to."""

CONTEXTS = (
    *("cyber-centre", "cyber-centre", "partner-cert", "highway-patrol", "ems", "admin-1"),
    *("auditor-1", "ems-admin"),
)
WORDS = (
    "", "vulnerabilities", "crash-reports", "nowhere", "cyber-defence", "law-enforcement", "gov.cisa.kev.v1", "named",
    "//cyber-centre/test", "//ems/x", "1.0", "dataclassification", "clear", "red", "purposes", "a,b", "recordedtime",
    "authid", "partitionkey", "expirytime", "datacontenttype", "application/json", "{}", '{"a":1,"a":2}', "[" * 300,
    "../x", "\0", "\ufeff", "\u202e", "é" * 70, "x" * 2_000, "1e999", "NaN",
)  # fmt: skip
NUMBERS = (0, 1, 2, 100, 2**31 - 1, 2**32 - 1, 2**63 - 1)


@dataclass
class Outcomes:
    """What came back: OK, or the catalogue's reason."""

    seen: Counter[str] = field(default_factory=Counter)

    def note(self, found: str, context: str) -> None:
        """Only OK and reasons of the catalogue, of which INTERNAL says that something unforeseen happened."""
        assert found == "OK" or found in Reason.__members__, f"{context}: {found!r}"
        assert found != "INTERNAL", context
        self.seen[found] += 1


def random_message(kind: type[Message], chance: random.Random, depth: int = 0) -> Message:
    """A message of this type with random fields, some of values that mean something to an exchange."""
    message = kind()
    for each in kind.DESCRIPTOR.fields:
        if chance.random() < 0.5 or depth > 5:
            continue
        if each.message_type is not None and each.message_type.GetOptions().map_entry:
            _fill_map(getattr(message, each.name), each, chance, depth)
        elif each.is_repeated:
            values = [_value(each, chance, depth) for _ in range(chance.choice((1, 1, 2, 5)))]
            getattr(message, each.name).extend(values)
        elif each.message_type is not None:
            getattr(message, each.name).CopyFrom(_value(each, chance, depth))
        else:
            setattr(message, each.name, _value(each, chance, depth))
    return message


def _fill_map(found: object, each: FieldDescriptor, chance: random.Random, depth: int) -> None:
    kind = each.message_type.fields_by_name["value"]
    for _ in range(chance.choice((1, 3))):
        key = chance.choice(WORDS)
        if kind.message_type is not None:
            found[key].CopyFrom(_value(kind, chance, depth))  # type: ignore[index]
        else:
            found[key] = _value(kind, chance, depth)  # type: ignore[index]


def _value(each: FieldDescriptor, chance: random.Random, depth: int) -> object:
    if each.message_type is not None:
        return random_message(GetMessageClass(each.message_type), chance, depth + 1)
    if each.enum_type is not None:
        return chance.choice((0, 1, 2, 3, 77))
    match each.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING if each.type == FieldDescriptor.TYPE_BYTES:
            return chance.randbytes(chance.choice((0, 1, 12, 300, 310)))
        case FieldDescriptor.CPPTYPE_STRING:
            return chance.choice(WORDS)
        case FieldDescriptor.CPPTYPE_BOOL:
            return chance.random() < 0.5
        case FieldDescriptor.CPPTYPE_INT32:
            return chance.choice((0, 1, -1, 999_999_999, 2**31 - 1, -(2**31)))
        case FieldDescriptor.CPPTYPE_UINT32:
            return chance.choice(NUMBERS[:6])
        case FieldDescriptor.CPPTYPE_INT64:
            return chance.choice((*NUMBERS, -1, -(2**63), 253_402_300_800))
        case _:
            return chance.choice(NUMBERS)


def mutated(message: bytes, chance: random.Random) -> bytes:
    """Some bytes changed, removed, repeated or put in."""
    changed = bytearray(message or b"\0")
    for _ in range(chance.choice((1, 1, 2, 8))):
        at = chance.randrange(len(changed) + 1)
        length = chance.choice((1, 1, 4, 32))
        edit: Callable[[], object] = chance.choice(
            (
                lambda at=at: changed.__setitem__(slice(at, at + 1), chance.randbytes(1)),
                lambda at=at, n=length: changed.__delitem__(slice(at, at + n)),
                lambda at=at, n=length: changed.__setitem__(slice(at, at), changed[at : at + n]),
                lambda at=at, n=length: changed.__setitem__(slice(at, at), chance.randbytes(n)),
            )
        )  # type: ignore[arg-type]
        edit()
    return bytes(changed)


def well_formed(name: str, chance: random.Random) -> bytes:
    """A message that the exchange would serve, where there is one worth mutating; else a random one."""
    number = str(chance.randrange(1_000))
    match name:
        case "Exchange/Publish" | "Exchange/PublishStream" | "Exchange/PreviewPublish":
            records = [_record(number, chance)]
            return exchange_pb2.PublishRequest(topic="vulnerabilities", records=records).SerializeToString()
        case "Exchange/Subscribe":
            return opening(records=5, name=chance.choice(("", "named"))).SerializeToString()
        case _:
            kind = GetMessageClass(METHODS[name].input_type)
            return random_message(kind, chance).SerializeToString()


def _record(record_id: str, chance: random.Random) -> CloudEvent:
    """A good record, or one with random attributes and data but for what names its agency and type."""
    record = vulnerability(record_id, partition_key="k")
    if chance.random() < 0.7:
        noise = random_message(CloudEvent, chance)
        for kept in ("source", "type"):
            if chance.random() < 0.9:
                noise.ClearField(kept)
        record.MergeFrom(noise)
    return record


def any_message(name: str, chance: random.Random) -> bytes:
    """Random bytes, a random message, or a mutated or whole good one."""
    kind = GetMessageClass(METHODS[name].input_type)
    match chance.randrange(10):
        case 0:
            return chance.randbytes(chance.choice((0, 1, 10, 1_000)))
        case 1 | 2 | 3:
            return random_message(kind, chance).SerializeToString()
        case 4 | 5 | 6:
            return mutated(well_formed(name, chance), chance)
        case _:
            return well_formed(name, chance)


async def send(
    channel: grpc.aio.Channel, streams: grpc.Channel, name: str, messages: Sequence[bytes], metadata: Metadata
) -> str:
    """How the call ends, or why it refused a record: OK also for a stream that stays open."""
    path = f"/entente.v1.{name}"
    try:
        if name not in STREAMS:
            answer: bytes = await channel.unary_unary(path)(messages[0], metadata=metadata, timeout=30)
            return _first_refusal(answer) if name == "Exchange/Publish" else "OK"
        return await asyncio.to_thread(_stream, streams, path, messages, metadata)
    except grpc.aio.AioRpcError as error:
        return _named(error)


def _stream(streams: grpc.Channel, path: str, messages: Sequence[bytes], metadata: Metadata) -> str:
    """With the blocking client: grpc.aio's loses the answer if a write meets the end of the call."""
    try:
        for _ in streams.stream_stream(path)(iter(messages), metadata=metadata, timeout=STREAM_S):
            pass
    except grpc.RpcError as error:
        return "OK" if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED else _named(error)
    return "OK"


def _named(error: grpc.RpcError) -> str:
    failure = failure_of(error)
    failure.check_shape()
    return failure.reason


def _first_refusal(answer: bytes) -> str:
    """The first reason for which a record was refused; OK if none was."""
    results = exchange_pb2.PublishResponse.FromString(answer).results
    return next((result.refused.reason for result in results if result.HasField("refused")), "OK")


async def fuzz(broker: BrokerProcess, chance: random.Random, calls: int, outcomes: Outcomes) -> None:
    """So many calls, one after the other."""
    # Publish is what most can be wrong with: every third call, however many other methods there are.
    names = [*sorted(METHODS), *["Exchange/Publish"] * (len(METHODS) // 2)]
    async with broker.channel() as channel:
        streams = grpc.secure_channel(broker.config.listen.tls, broker.credentials())
        for _ in range(calls):
            name = chance.choice(names)
            messages = [any_message(name, chance) for _ in range(chance.choice((1, 1, 2, 4)))]
            metadata = broker.metadata(chance.choice(CONTEXTS))
            if chance.random() < 0.05:
                token = mutated(metadata[0][1].encode(), chance)
                metadata = (
                    ("authorization", "".join(c for c in token.decode("latin-1") if " " <= c <= "~")),
                )
            found = await send(channel, streams, name, messages, metadata)
            outcomes.note(found, f"{name} {[message.hex() for message in messages]}")
        streams.close()


@pytest.mark.parametrize("calls", at_length(2_000, 100_000))
async def test_no_message_brings_anything_but_a_catalogued_answer(broker: BrokerProcess, calls: int) -> None:
    seed = random.randrange(2**32)
    log.info("seed %d", seed)
    outcomes, pid = Outcomes(), broker.pid
    await _all_at_once(broker, seed, 1_000, outcomes)
    before = broker.resident_bytes()
    await _all_at_once(broker, seed + WORKERS, calls, outcomes)
    grown = broker.resident_bytes() - before
    log.info("outcomes %s; memory grew by %d MiB", dict(outcomes.seen.most_common()), grown >> 20)
    assert broker.pid == pid
    assert {
        "OK",
        "REQUEST_INVALID",
        "SOURCE_FORGED",
        "STREAM_PROTOCOL",
        "TOKEN_INVALID",
    } <= outcomes.seen.keys()
    assert grown < 96 << 20
    assert not re.findall(r"call failed|task failed|delivery failed|Traceback", broker.log())
    async with broker.channel() as channel:
        (result,) = await broker.publish(channel, [vulnerability("afterwards")])
        assert result.HasField("accepted")


async def _all_at_once(broker: BrokerProcess, seed: int, calls: int, outcomes: Outcomes) -> None:
    async with asyncio.TaskGroup() as tasks:
        for worker in range(WORKERS):
            chance = random.Random(seed + worker)
            tasks.create_task(fuzz(broker, chance, calls // WORKERS, outcomes))
