"""The ledger: entries whose parts are committed to one by one, a Merkle tree over them, signed checkpoints, receipts."""
