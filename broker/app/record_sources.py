"""Opens what is stored of records for reading, without the right to change it."""

from __future__ import annotations

from pathlib import Path

from broker.app.config import KafkaAccess
from broker.errors import StorageUnavailable
from broker.ports.stored_records import StoredRecords

RECORDS_FILE = "records.db"


async def open_records(*, kafka: KafkaAccess | None, directory: Path | None) -> StoredRecords:
    """The records on Kafka, else those of an exchange's data directory. Raises StorageUnavailable."""
    if kafka is not None:
        from broker.adapters.kafka.record_reader import KafkaRecordReader
        from broker.app.kafka_stores import kafka_connection

        return KafkaRecordReader(kafka_connection(kafka))
    if directory is None:
        raise StorageUnavailable("no place is named that holds records")
    from broker.adapters.sqlite.record_reader import SqliteRecordReader

    return await SqliteRecordReader.open(directory / RECORDS_FILE)
