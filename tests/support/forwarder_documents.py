"""Forwarder documents: the contract's example, the least that is valid, and some that point at a test's receiver."""

import copy
import json
from collections.abc import Mapping
from typing import Any

from tests.support.receiver import Receiver
from transforms.forwarders import Documents, Fault, Forwarders, Rules, load_forwarders, read_documents

# From contract/learning-locker-statement-forwarding.txt, character by character.
EXAMPLE = r"""{
  "_id" : "59c8d14b0d82b3864a450604",
  "createdAt" : "2017-09-25T09:50:03.880Z",
  "updatedAt" : "2017-11-06T14:07:27.212Z",
  "owner" : "59198183d8ea540933227030",
  "query" : "{}",
  "organisation" : "59c209c4ad95fd50960c0362",
  "isPublic" : false,
  "configuration" : {
      "authType" : "no auth",
      "protocol" : "https",
      "url" : "example.org/endpoint",
      "maxRetries" : 10,
      "headers" : "{\"Test-Header-Key\":\"Test-Header-Value\"}",
      "secret" : "Dave"
  },
  "__v" : 0,
  "active" : true,
  "description" : "Statement forwarder"
}"""

HTTP: dict[str, Any] = {
    "_id": "h",
    "active": True,
    "organisation": "o",
    "configuration": {"protocol": "http", "url": "example.org/in", "maxRetries": 0},
}
KINESIS: dict[str, Any] = {
    "_id": "k",
    "active": True,
    "organisation": "o",
    "configuration": {"protocol": "Kinesis", "authType": "no auth"},
    "kinesisOptions": {
        "streamName": "Name",
        "awsClientKey": "xxxxxxxxxxxx",
        "awsClientSecret": "xxxxxxxxxxxx",
        "awsRegion": "us-east-1",
    },
}


class _Absent:
    pass


ABSENT = _Absent()


def changed(document: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A copy with the fields at dotted paths set, or removed where the value is ABSENT."""
    made = copy.deepcopy(document)
    for path, value in changes.items():
        *parents, name = path.split(".")
        place = made
        for parent in parents:
            place = place.setdefault(parent, {})
        if value is ABSENT:
            place.pop(name, None)
        else:
            place[name] = value
    return made


def compile_nothing(query: Any) -> Any:
    """Stands in for transforms.query.compile_query: refuses what holds $bad."""
    if "$bad" in str(query):
        raise ValueError("unknown operator: $bad")
    return ("compiled", query)


def rules(**options: Any) -> Rules:
    return Rules(compile_nothing, **options)


def read(*documents: Any) -> Documents:
    return read_documents({"f.json": json.dumps(documents).encode()})


def load(*documents: Any, **options: Any) -> Forwarders:
    return load_forwarders(read(*documents), rules(**options))


def said(faults: tuple[Fault, ...]) -> list[tuple[str, str]]:
    return [(fault.field, fault.message) for fault in faults]


def http_document(
    receiver: Receiver, name: str = "http", configuration: Mapping[str, Any] | None = None, **given: Any
) -> dict[str, Any]:
    """To the path of the receiver that is called as the forwarder is."""
    settings = {"protocol": "http", "url": receiver.url(name), "maxRetries": 3, **(configuration or {})}
    return {"_id": name, "active": True, "query": "", "payload": "record", "configuration": settings, **given}


def aws_document(name: str, service: str = "streams", configuration: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """To a data stream or delivery stream called `name`; statements, because those say their id."""
    return {
        "_id": name,
        "active": True,
        "query": "{}",
        "payload": "statement",
        "configuration": {"protocol": "Kinesis", **(configuration or {})},
        "kinesisOptions": {"service": service, "streamName": name, "awsRegion": "us-east-1"},
    }
