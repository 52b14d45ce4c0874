"""Kafka on the partner's side, and how the exchange reaches its own: one way to make clients."""
