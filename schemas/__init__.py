"""The shapes that cross a boundary: Avro schemas, and the types for them. Nothing of ours is imported here."""

import json
from functools import cache
from importlib import resources
from typing import Any

from schemas.activity import Action, Activity, Response, State, SubscoreDefinition, Tag
from schemas.delivery import DeadLetter, Receipt
from schemas.record import DERIVED_KINDS, KINDS, DerivedKind, Kind, Record
from schemas.reject import Reject

__all__ = [
    "DERIVED_KINDS",
    "KINDS",
    "Action",
    "Activity",
    "DeadLetter",
    "DerivedKind",
    "Kind",
    "Receipt",
    "Record",
    "Reject",
    "Response",
    "State",
    "SubscoreDefinition",
    "Tag",
    "avro_schema",
]


@cache
def avro_schema(name: str) -> dict[str, Any]:
    """The Avro schema `schemas/<name>.avsc`, as the dict that fastavro and Beam take."""
    schema: dict[str, Any] = json.loads(resources.files(__name__).joinpath(f"{name}.avsc").read_text())
    return schema
