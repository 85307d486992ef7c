"""What the service's OpenAPI says of requests and answers: schemas with names, of which clients can be generated.

A forwarder document is described from the table of fields, a receipt from its Avro schema, and all else here.
`answered` and `request_body` are for the routes.
"""

from collections.abc import Callable
from typing import Any

from registry.deliveries import SHOWN
from schemas import KINDS, avro_schema
from schemas.json_values import JsonObject
from transforms.forwarders import fields
from transforms.forwarders.fields import Field, FieldKind

SECURITY = "client"
"""The name of the way in which a client says who it is."""

OPEN: JsonObject = {"security": []}
"""What an operation says that asks nobody who they are."""

IF_MATCH: JsonObject = {
    "name": "If-Match",
    "in": "header",
    "required": False,
    "schema": {"type": "string"},
    "description": "The `ETag` of the forwarder as it was seen: if it was changed since, the answer is 412",
}


def ref(name: str) -> JsonObject:
    """A schema of the OpenAPI, by its name."""
    return {"$ref": f"#/components/schemas/{name}"}


def list_of(name: str) -> JsonObject:
    """An array of what a schema of the OpenAPI describes."""
    return {"type": "array", "items": ref(name)}


def object_of(description: str, properties: JsonObject, optional: tuple[str, ...] = ()) -> JsonObject:
    """An object with these properties and no others.

    Args:
        optional: the names of those that may be missing.
    """
    return {
        "type": "object",
        "description": description,
        "properties": properties,
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
    }


def or_null(schema: JsonObject) -> JsonObject:
    """What the schema describes, or null."""
    return {"anyOf": [schema, {"type": "null"}]}


def answered(schema: JsonObject, description: str, status: int = 200, tagged: bool = False) -> dict[int | str, Any]:
    """What FastAPI is to say of an answer in JSON, as `responses` of a route.

    Args:
        schema: such as `ref` or `list_of` give.
        description: of the answer.
        tagged: it has an `ETag`.
    """
    headers = {"ETag": {"description": "For `If-Match`", "schema": {"type": "string"}}} if tagged else {}
    content = {"application/json": {"schema": schema}}
    return {status: {"description": description, "content": content, **({"headers": headers} if headers else {})}}


def request_body(schema: JsonObject, *parameters: JsonObject) -> JsonObject:
    """What FastAPI is to say of an operation whose body, and some of whose parameters, it does not read itself."""
    body = {"required": True, "content": {"application/json": {"schema": schema}}}
    return {"requestBody": body, **({"parameters": list(parameters)} if parameters else {})}


def described(description: JsonObject, more: JsonObject) -> JsonObject:
    """The OpenAPI as FastAPI makes it of the routes, with the schemas that they refer to, and how a client logs in.

    Args:
        description: as FastAPI makes it.
        more: schemas beside those of `schemas`, by name.
    """
    components = description.setdefault("components", {})
    components.setdefault("schemas", {}).update(schemas() | more)
    components["securitySchemes"] = {
        SECURITY: {
            "type": "http",
            "scheme": "basic",
            "description": "Key and secret of a client: `python -m registry client add`",
        }
    }
    description["security"] = [{SECURITY: []}]
    return description


def schemas() -> JsonObject:
    """The schemas of requests and answers, by name."""
    receipt = _receipt_schema()
    sample_receipt = {**receipt, "description": "The receipt of a sample, and what was sent."}
    sample_receipt["properties"] = {**receipt["properties"], "payload": {"type": "string", "description": "as sent"}}
    sample_receipt["required"] = [*receipt["required"], "payload"]
    return {**_SCHEMAS, FORWARDER: _forwarder_schema(), "Receipt": receipt, "SampleReceipt": sample_receipt}


FORWARDER = "Forwarder"
"""The document's name among the schemas."""


def _forwarder_schema() -> JsonObject:
    """The JSON Schema of a forwarder document as a client may send it."""
    return {
        "type": "object",
        "description": "A forwarder document. Fields that are not known are kept, and have no effect. In a document "
        "that is not active, fields may be of other types.",
        "properties": _properties(""),
        "additionalProperties": True,
    }


def _receipt_schema() -> JsonObject:
    fields = {field["name"]: field for field in avro_schema("dead_letter")["fields"]}
    properties = {name: {**_of_avro(fields[name]["type"]), **_told(fields[name])} for name in SHOWN}
    for name in ("reason", "response"):
        # A receipt is not a dead letter, which has them.
        properties[name] = or_null({"type": "string"}) | _told(fields[name])
    return object_of("How the delivery of one record to one forwarder was settled.", properties)


def _told(field: JsonObject) -> JsonObject:
    return {"description": field["doc"]} if "doc" in field else {}


_OF_AVRO: dict[str, JsonObject] = {
    "string": {"type": "string"},
    "boolean": {"type": "boolean"},
    "int": {"type": "integer"},
    "long": {"type": "integer"},
    "null": {"type": "null"},
}


def _of_avro(avro_type: Any) -> JsonObject:
    """The JSON Schema of a value of an Avro type as it is shown: times are text."""
    if isinstance(avro_type, list):
        return {"anyOf": [_of_avro(inner) for inner in avro_type]}
    if isinstance(avro_type, str):
        return _OF_AVRO[avro_type]
    if avro_type.get("logicalType") == "timestamp-millis":
        return {"type": "string", "format": "date-time"}
    if avro_type["type"] == "enum":
        return {"type": "string", "enum": avro_type["symbols"]}
    if avro_type["type"] == "array":
        return {"type": "array", "items": _of_avro(avro_type["items"])}
    return _of_avro(avro_type["type"])


TEXT: JsonObject = {"type": "string"}
YES_OR_NO: JsonObject = {"type": "boolean"}
COUNT: JsonObject = {"type": "integer", "minimum": 0}
KIND: JsonObject = {"type": "string", "enum": list(KINDS)}

_SCHEMAS: JsonObject = {
    "Problem": object_of(
        "Why a request was refused.",
        {"message": TEXT, "faults": list_of("Fault"), "warnings": list_of("Fault")},
        optional=("faults", "warnings"),
    ),
    "Fault": object_of(
        "What breaks a rule, or is probably not meant.",
        {"field": {**TEXT, "description": "the dotted path in the document, or the parameter"}, "message": TEXT},
    ),
    "Health": object_of(
        "Whether the service and its store answer.",
        {"status": {"type": "string", "enum": ["ok", "full", "failing"]}, "message": TEXT},
        optional=("message",),
    ),
    "ForwarderCount": object_of("How many forwarders there are.", {"count": COUNT}),
    "ForwarderConnection": object_of(
        "A page of forwarders.", {"edges": list_of("ForwarderEdge"), "pageInfo": ref("PageInfo")}
    ),
    "ForwarderEdge": object_of("A forwarder, and its place in the list.", {"cursor": TEXT, "node": ref(FORWARDER)}),
    "PageInfo": object_of(
        "What is before and behind a page.",
        {
            "hasNextPage": YES_OR_NO,
            "hasPreviousPage": YES_OR_NO,
            "startCursor": or_null(TEXT),
            "endCursor": or_null(TEXT),
        },
    ),
    "SampleRequest": {
        "type": "object",
        "description": "Which sample is to be sent.",
        "properties": {
            "kind": {"type": "string", "enum": list(KINDS), "description": "without it: one that the query matches"}
        },
    },
    "SampleResult": object_of(
        "What became of a sample.",
        {
            "matches": {**YES_OR_NO, "description": "whether the forwarder's query matches it"},
            "receipt": ref("SampleReceipt"),
        },
    ),
    "LastDeliveries": {
        "type": "object",
        "description": "The latest receipt of each forwarder, by the forwarder's `_id`.",
        "additionalProperties": ref("Receipt"),
    },
    "RecordToMatch": {
        "type": "object",
        "description": "A record: a line of `--write_records jsonl`, its message alone, or an xAPI statement, "
        "alone or in a document of Learning Locker.",
        "additionalProperties": True,
    },
    "MatchResult": object_of(
        "Which forwarders a record would reach.",
        {
            "id": {**TEXT, "description": "of the record"},
            "kind": KIND,
            "forwarders": list_of("ForwarderMatch"),
        },
    ),
    "ForwarderMatch": object_of(
        "Whether a record would reach a forwarder.",
        {
            "_id": {**TEXT, "description": "of the forwarder"},
            "active": YES_OR_NO,
            "reached": YES_OR_NO,
            "reason": {**TEXT, "description": "what decided"},
        },
    ),
}


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
    return {**_FIELD_SCHEMAS[field.kind](field), "description": description}


def _text(field: Field) -> JsonObject:
    return TEXT


def _secret(field: Field) -> JsonObject:
    return {"type": "string", "format": "password"}


def _flag(field: Field) -> JsonObject:
    return YES_OR_NO


def _number(field: Field) -> JsonObject:
    if field.whole:
        return {"type": "integer", "minimum": int(field.least or 1), "maximum": field.most}
    least = {"exclusiveMinimum": 0} if field.least is None else {"minimum": field.least}
    return {"type": "number", **least, "maximum": field.most}


_FIELD_SCHEMAS: dict[FieldKind, Callable[[Field], JsonObject]] = {
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
