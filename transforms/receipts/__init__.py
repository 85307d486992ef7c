"""What was settled: receipts and dead letters, written durably and read back. Nothing here imports Beam."""
