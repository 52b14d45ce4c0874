"""The stores on Apache Kafka, with kafka-python: record log, ledger, subscriptions, rulebooks."""
