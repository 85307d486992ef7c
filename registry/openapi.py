"""How the service's OpenAPI describes a forwarder document: made from the table of fields."""

from collections.abc import Callable

from schemas.json_values import JsonObject
from transforms.forwarders import fields
from transforms.forwarders.fields import Field, FieldKind

FORWARDER = "Forwarder"
"""The document's name among the schemas of the OpenAPI."""


def forwarder_schema() -> JsonObject:
    """The JSON Schema of a forwarder document as a client may send it."""
    return {
        "type": "object",
        "description": "A forwarder document. Fields that are not known are kept, and have no effect.",
        "properties": _properties(""),
    }


def request_body(schema: JsonObject) -> JsonObject:
    """What FastAPI is to say of an operation whose body it does not read itself."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def _properties(parent: str) -> JsonObject:
    properties: JsonObject = {field.name: _field_schema(field) for field in fields.FIELDS if field.parent == parent}
    for path in fields.FIELDS.objects:
        outer, _, name = path.rpartition(".")
        if outer == parent:
            properties[name] = {"type": "object", "properties": _properties(path)}
    return properties


def _field_schema(field: Field) -> JsonObject:
    description = field.description
    if field.protocols:
        description += f" For the protocols {', '.join(field.protocols)}."
    if field.needed_by:
        description += f" {field.needed_by[0].upper()}{field.needed_by[1:]} needs it."
    if field.without_it:
        description += f" Without it: {field.without_it}."
    return {**_SCHEMAS[field.kind](field), "description": description}


def _text(field: Field) -> JsonObject:
    return {"type": "string"}


def _secret(field: Field) -> JsonObject:
    return {"type": "string", "format": "password"}


def _flag(field: Field) -> JsonObject:
    return {"type": "boolean"}


def _number(field: Field) -> JsonObject:
    if field.whole:
        return {"type": "integer", "minimum": int(field.least or 1), "maximum": field.most}
    least = {"exclusiveMinimum": 0} if field.least is None else {"minimum": field.least}
    return {"type": "number", **least, "maximum": field.most}


_SCHEMAS: dict[FieldKind, Callable[[Field], JsonObject]] = {
    "any": lambda field: {},
    "id": _text,
    "active": _flag,
    "flag": _flag,
    "choice": lambda field: {"type": "string", "enum": list(field.allowed)},
    "choices": lambda field: {
        "type": "array",
        "items": {"type": "string", "enum": list(field.allowed)},
        "minItems": 1,
        "uniqueItems": True,
    },
    "scope": _text,
    "query": lambda field: {"anyOf": [{"type": "string"}, {"type": "object"}]},
    "text": _text,
    "number": _number,
    "count": lambda field: {"type": "integer", "minimum": 0, "maximum": field.most},
    "url": _text,
    "endpoint": _text,
    "headers": _text,
    "secret": _secret,
    "secrets": lambda field: {"anyOf": [_secret(field), {"type": "array", "items": _secret(field)}]},
    "file": _text,
}
