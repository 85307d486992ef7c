"""What is accepted as input: files and messages go in, activity comes out. Nothing here imports Beam."""
