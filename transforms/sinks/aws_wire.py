"""The bodies of big boto3 calls, encoded and decoded in C instead of member by member.

boto3 turns `Records` into JSON through its description of the service, at 18 us a record; msgspec makes the same
bytes at well under one. It is only faster: the call is an ordinary boto3 call and works without this.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypedDict

import msgspec
from botocore.client import BaseClient
from botocore.parsers import ResponseParserError


class PutRecordsEntry(TypedDict, total=False):
    """Of one record, in the answer to PutRecords."""

    SequenceNumber: str | None
    ShardId: str | None
    ErrorCode: str | None
    ErrorMessage: str | None


class PutRecordsAnswer(TypedDict):
    Records: list[PutRecordsEntry]


class PutRecordBatchEntry(TypedDict, total=False):
    """Of one record, in the answer to PutRecordBatch."""

    RecordId: str | None
    ErrorCode: str | None
    ErrorMessage: str | None


class PutRecordBatchAnswer(TypedDict):
    RequestResponses: list[PutRecordBatchEntry]


def encode_in_c(client: BaseClient, operation: str, answer: type[PutRecordsAnswer | PutRecordBatchAnswer]) -> None:
    """Make `operation` of this client encode its `Records` and decode its answer (a TypedDict) with msgspec.

    Does nothing if this version of boto3 does not speak JSON to the service. An answer of another shape is a
    ResponseParserError, as it is in boto3.
    """
    if client.meta.service_model.resolved_protocol != "json":
        return
    decode: Callable[[bytes], Mapping[str, Any]] = msgspec.json.Decoder(answer).decode

    def set_aside(params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
        context["records_set_aside"] = {**params}
        params["Records"] = []

    def encode(params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
        # bytes become base64, as the service wants them.
        params["body"] = msgspec.json.encode(context.pop("records_set_aside"))

    def parse(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any) -> None:
        if response_dict["status_code"] >= 300:
            return
        try:
            customized_response_dict.update(decode(response_dict["body"]))
        except (msgspec.MsgspecError, UnicodeDecodeError):
            # Not the decoder's words: they could quote the answer.
            raise ResponseParserError(f"the answer to {operation} is not readable") from None
        response_dict["body"] = b"{}"

    service = client.meta.service_model.service_id.hyphenize()
    client.meta.events.register(f"before-parameter-build.{service}.{operation}", set_aside)
    client.meta.events.register(f"before-call.{service}.{operation}", encode)
    client.meta.events.register(f"before-parse.{service}.{operation}", parse)
