"""The sending side: order per user, retries, sinks, receipts. Nothing here imports Beam."""
