"""Both sides of witnessing: a ledger hands over its checkpoints, and a witness judges them before it cosigns."""
