"""A Kafka source's offsets, read and altered: those that its consumer group has committed. Calls block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kafka import TopicPartition

from connectors.kafka.group import Group
from connectors.kafka.source_settings import ReadSettings
from connectors.runtime.model import Offset

_FORM = 'write {"topic": "…", "partition": 0} and {"offset": 42}, or no offset to forget it'


def read_topics(group: Group, settings: ReadSettings) -> list[str]:
    """Those that it reads now."""
    pattern = settings.whole_pattern()
    return list(settings.topics) if pattern is None else group.matching(pattern)


def read_offsets(group: Group, settings: ReadSettings) -> list[Offset]:
    """One for each partition; None where the group has committed nothing that counts for the topic of today."""
    topics = read_topics(group, settings)
    ids, committed = group.topic_ids(topics), group.committed()
    found = []
    for each in group.partitions(topics):
        at = committed.get(each)
        counts = at is not None and at.topic_id in ("", ids[each.topic])
        offset = {"offset": at.offset} if at is not None and counts else None
        found.append(Offset({"topic": each.topic, "partition": each.partition}, offset))
    return found


def asked_positions(offsets: Sequence[Offset]) -> dict[TopicPartition, int | None]:
    """What is asked for, in Kafka's words. Raises ValueError."""
    asked: dict[TopicPartition, int | None] = {}
    for each in offsets:
        topic, number = each.partition.get("topic"), each.partition.get("partition")
        if (
            set(each.partition) != {"topic", "partition"}
            or not isinstance(topic, str)
            or not _natural(number)
        ):
            raise ValueError(f"is no partition of a Kafka source; {_FORM}")
        partition = TopicPartition(topic, number)
        if partition in asked:
            raise ValueError(f"{topic}, partition {number}: is there twice; give it once")
        if each.offset is not None and (
            set(each.offset) != {"offset"} or not _natural(each.offset["offset"])
        ):
            raise ValueError(f"{topic}, partition {number}: is no offset of a Kafka source; {_FORM}")
        asked[partition] = None if each.offset is None else int(each.offset["offset"])
    return asked


def write_offsets(group: Group, settings: ReadSettings, asked: Mapping[TopicPartition, int | None]) -> None:
    """Commit them for the group, or have it forget them. Raises ValueError for partitions that it does not read."""
    topics = read_topics(group, settings)
    known = set(group.partitions(topics))
    for each in asked:
        if each not in known:
            raise ValueError(f"{each.topic}, partition {each.partition}: this connector does not read it")
    for each, bounds in group.bounds(list(asked)).items():
        at = asked[each]
        if at is not None and not bounds.first <= at <= bounds.end:
            raise ValueError(
                f"{each.topic}, partition {each.partition}: holds offsets {bounds.first} to {bounds.end}, not {at}"
            )
    group.alter({each: at for each, at in asked.items() if at is not None}, group.topic_ids(topics))
    group.forget([each for each, at in asked.items() if at is None])


def _natural(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
