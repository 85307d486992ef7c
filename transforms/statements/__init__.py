"""Statements that are forwarded as they are: which are the same, and in which order they leave. No Beam in it."""
