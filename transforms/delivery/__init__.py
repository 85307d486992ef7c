"""Order, attempts and waits: from items that are due to items that are settled. Nothing here imports Beam."""
