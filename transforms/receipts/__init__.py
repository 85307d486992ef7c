"""What was settled, durably: receipts and dead letters, written and read back. Nothing here imports Beam."""
