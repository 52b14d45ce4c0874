"""Witnesses as a ledger reaches them (a file, another Kafka, a co-signing service), and that service itself."""
