"""Where a source begins: never beyond records that nobody has said may be left out."""

from __future__ import annotations

from typing import Any

import pytest
from kafka import TopicPartition

from connectors.kafka.group import stamped
from connectors.kafka.positions import Bounds, Committed, first_position
from connectors.kafka.source_offsets import asked_positions, read_offsets, write_offsets
from connectors.kafka.source_settings import ReadSettings
from connectors.runtime.model import ConnectorFailed, Offset

BOUNDS = Bounds(10, 20)
READ = ReadSettings(topics=("crashes",))


def position(committed: Committed | None, **choices: Any) -> int:
    chosen: dict[str, Any] = {"on_out_of_range": "fail", **choices}
    return first_position("crashes, partition 0", committed, "id-1", BOUNDS, **chosen)


@pytest.mark.parametrize("offset", [10, 15, 20])
def test_it_goes_on_where_its_group_has_committed(offset: int) -> None:
    assert position(Committed(offset, "id-1")) == offset
    assert position(Committed(offset)) == offset  # committed by another program, which says no id


def test_a_partition_of_which_nothing_is_committed_is_read_from_its_beginning() -> None:
    assert position(None) == 10


def test_a_topic_that_was_made_anew_is_read_from_its_beginning() -> None:
    assert position(Committed(15, "id-0")) == 10


@pytest.mark.parametrize("offset", [9, 21])
def test_out_of_range_it_fails_unless_it_is_told_what_to_do(offset: int) -> None:
    with pytest.raises(
        ConnectorFailed, match=f"offset {offset}, is gone; offsets 10 to 20 are there"
    ) as told:
        position(Committed(offset, "id-1"))
    assert told.value.lasting
    assert position(Committed(offset, "id-1"), on_out_of_range="earliest") == 10
    assert position(Committed(offset, "id-1"), on_out_of_range="latest") == 20


def test_what_is_committed_says_of_which_topic() -> None:
    at = stamped({TopicPartition("crashes", 0): 7}, {"crashes": "id-1"})[TopicPartition("crashes", 0)]
    assert (at.offset, at.metadata) == (7, "id-1")


class KnownGroup:
    """Two partitions of a topic, as a Group tells of them."""

    def __init__(self) -> None:
        self.altered: dict[TopicPartition, int] = {}
        self.forgotten: list[TopicPartition] = []
        self.kept = {TopicPartition("crashes", 0): Committed(15, "id-1")}

    def topic_ids(self, topics: Any) -> dict[str, str]:
        return dict.fromkeys(topics, "id-1")

    def partitions(self, topics: Any) -> list[TopicPartition]:
        return [TopicPartition("crashes", 0), TopicPartition("crashes", 1)]

    def bounds(self, partitions: Any) -> dict[TopicPartition, Bounds]:
        return dict.fromkeys(partitions, BOUNDS)

    def committed(self) -> dict[TopicPartition, Committed]:
        return self.kept

    def alter(self, offsets: Any, topic_ids: Any) -> None:
        self.altered = dict(offsets)

    def forget(self, partitions: Any) -> None:
        self.forgotten = list(partitions)


def test_offsets_are_those_of_the_topic_of_today() -> None:
    group: Any = KnownGroup()
    second = Offset({"topic": "crashes", "partition": 1}, None)
    assert read_offsets(group, READ) == [
        Offset({"topic": "crashes", "partition": 0}, {"offset": 15}),
        second,
    ]
    group.kept = {TopicPartition("crashes", 0): Committed(15, "id-0")}
    assert read_offsets(group, READ) == [Offset({"topic": "crashes", "partition": 0}, None), second]


def test_offsets_are_altered_and_forgotten() -> None:
    group: Any = KnownGroup()
    asked = asked_positions(
        [
            Offset({"topic": "crashes", "partition": 0}, {"offset": 12}),
            Offset({"topic": "crashes", "partition": 1}, None),
        ]
    )
    write_offsets(group, READ, asked)
    assert group.altered == {TopicPartition("crashes", 0): 12}
    assert group.forgotten == [TopicPartition("crashes", 1)]


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        (Offset({"topic": "crashes"}, None), "is no partition"),
        (Offset({"topic": "crashes", "partition": "0"}, None), "is no partition"),
        (Offset({"topic": "crashes", "partition": -1}, None), "is no partition"),
        (Offset({"topic": "crashes", "partition": 0, "x": 1}, None), "is no partition"),
        (Offset({"topic": "crashes", "partition": 0}, {"offset": -1}), "is no offset"),
        (Offset({"topic": "crashes", "partition": 0}, {"offset": "1"}), "is no offset"),
        (Offset({"topic": "crashes", "partition": 0}, {"cursor": "x"}), "is no offset"),
        (Offset({"topic": "crashes", "partition": 2}, {"offset": 12}), "does not read it"),
        (Offset({"topic": "others", "partition": 0}, None), "does not read it"),
        (Offset({"topic": "crashes", "partition": 0}, {"offset": 9}), "holds offsets 10 to 20, not 9"),
        (Offset({"topic": "crashes", "partition": 0}, {"offset": 21}), "holds offsets 10 to 20, not 21"),
    ],
)
def test_what_is_no_offset_of_it_is_refused_and_nothing_is_changed(asked: Offset, why: str) -> None:
    group: Any = KnownGroup()
    with pytest.raises(ValueError, match=why):
        write_offsets(group, READ, asked_positions([asked]))
    assert group.altered == {}
    assert group.forgotten == []


def test_a_partition_that_is_asked_for_twice_is_refused() -> None:
    twice = Offset({"topic": "crashes", "partition": 0}, None)
    with pytest.raises(ValueError, match="is there twice"):
        asked_positions([twice, twice])
