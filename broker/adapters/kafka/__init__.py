"""The stores on Apache Kafka: record log, ledger, subscriptions, rulebooks. librdkafka carries, kafka-python administers."""
