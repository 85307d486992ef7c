"""What a run counted. Nothing here imports Beam."""
