"""A user's activity is folded into sessions, and the records that it causes are derived. Nothing here imports Beam."""
