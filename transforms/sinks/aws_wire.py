"""The bodies of big boto3 calls, encoded and decoded by msgspec instead of member by member.

boto3 turns `Records` into JSON by its description of the service, in 18 us a record. msgspec makes the same bytes in
well under 1 us. The calls are ordinary boto3 calls, and would work without this.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypedDict

import msgspec
from botocore.client import BaseClient
from botocore.parsers import ResponseParserError


class PutRecordsEntry(TypedDict, total=False):
    """What the answer to PutRecords says of one record."""

    SequenceNumber: str | None
    ShardId: str | None
    ErrorCode: str | None
    ErrorMessage: str | None


class PutRecordsAnswer(TypedDict):
    """The answer to PutRecords, as far as it is read."""

    Records: list[PutRecordsEntry]


class PutRecordBatchEntry(TypedDict, total=False):
    """What the answer to PutRecordBatch says of one record."""

    RecordId: str | None
    ErrorCode: str | None
    ErrorMessage: str | None


class PutRecordBatchAnswer(TypedDict):
    """The answer to PutRecordBatch, as far as it is read."""

    RequestResponses: list[PutRecordBatchEntry]


def encode_in_c(client: BaseClient, operation: str, answer: type[PutRecordsAnswer | PutRecordBatchAnswer]) -> None:
    """Make a client use msgspec for the body of one operation and for its answer.

    Nothing changes if this version of boto3 does not speak JSON to the service. An answer of another shape raises
    ResponseParserError from the call, as it does in boto3.

    Args:
        client: of Kinesis or Firehose.
        operation: `PutRecords` or `PutRecordBatch`.
        answer: what the answer holds.
    """
    if client.meta.service_model.resolved_protocol != "json":
        return
    decode: Callable[[bytes], Mapping[str, Any]] = msgspec.json.Decoder(answer).decode

    def set_aside(params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
        context["records_set_aside"] = {**params}
        params["Records"] = []

    def encode(params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
        # msgspec writes bytes as base64, as the service wants them.
        params["body"] = msgspec.json.encode(context.pop("records_set_aside"))

    def parse(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any) -> None:
        if response_dict["status_code"] >= 300:
            return
        try:
            customized_response_dict.update(decode(response_dict["body"]))
        except (msgspec.MsgspecError, UnicodeDecodeError):
            # The decoder's own message is left out, because it could quote the answer.
            raise ResponseParserError(f"the answer to {operation} is not readable") from None
        response_dict["body"] = b"{}"

    service = client.meta.service_model.service_id.hyphenize()
    client.meta.events.register(f"before-parameter-build.{service}.{operation}", set_aside)
    client.meta.events.register(f"before-call.{service}.{operation}", encode)
    client.meta.events.register(f"before-parse.{service}.{operation}", parse)
