"""One attempt: an item is sent to its target, and what came of it is told. Nothing here imports Beam."""
