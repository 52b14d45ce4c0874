"""Delivery: from stored records to what each subscriber receives, with the ledger entry durable first."""
