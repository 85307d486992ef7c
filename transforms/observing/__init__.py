"""What is told of a run to those who watch it: metrics and alerts. Nothing here imports Beam."""
