"""The fold of a user's activity into sessions, and the records it gives rise to. Nothing here imports Beam."""
