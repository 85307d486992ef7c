"""One attempt: an item to its target, and what came of it. Nothing here imports Beam."""
