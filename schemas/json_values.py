"""Parsed JSON as a type."""

from typing import Any

JsonObject = dict[str, Any]
"""A JSON object: names to values of any JSON type."""
