"""Who is due which record and why, and what is sent. Nothing here imports Beam."""
