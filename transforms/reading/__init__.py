"""What is accepted as input: files and messages in, activity out. Nothing here imports Beam."""
