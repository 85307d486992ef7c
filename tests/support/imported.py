"""Imports the job, as a start of it does: what `tests.support.forked` forks its processes from."""

import logging

import pipeline.command
import pipeline.run  # noqa: F401

# Beam's import has given the root logger a handler, which a start of the job does not find.
logging.getLogger().handlers.clear()
