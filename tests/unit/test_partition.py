"""Partitions are chosen exactly as Kafka's clients choose them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kafka.partitioner.default import murmur2 as kafka_murmur2

from broker.model.partition import murmur2, partition_for

# Signed results from Apache Kafka's own UtilsTest.testMurmur2.
KNOWN_ANSWERS = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize(("key", "signed"), KNOWN_ANSWERS.items())
def test_murmur2_gives_kafkas_known_answers(key: bytes, signed: int) -> None:
    assert murmur2(key) == signed & 0xFFFFFFFF


@pytest.mark.parametrize(("key", "signed"), KNOWN_ANSWERS.items())
def test_partition_is_the_positive_hash_modulo_the_count(key: bytes, signed: int) -> None:
    assert partition_for(key, 12) == (signed & 0x7FFFFFFF) % 12


@given(st.binary(max_size=80))
@settings(max_examples=200)
def test_murmur2_equals_kafka_pythons(key: bytes) -> None:
    assert murmur2(key) == kafka_murmur2(key) & 0xFFFFFFFF


@given(st.binary(max_size=20))
@settings(max_examples=50)
def test_one_partition_takes_every_key(key: bytes) -> None:
    assert partition_for(key, 1) == 0
