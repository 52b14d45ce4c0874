"""Makes an agency's records into CloudEvents of the exchange, by configuration; pure."""
