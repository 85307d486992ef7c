"""Calls that put records, over connections of our own: boto3 needs 1.5 ms of processor time for a call, this 0.1.

boto3 says how: what it would send is learned from a call that it prepares and that never leaves. So its endpoints,
regions and settings hold here, and its credentials sign, refreshed as it refreshes them. What is learned is checked by
signing that same call; where the signatures differ, or boto3 would do something that is not done here, boto3 makes the
calls (docs/decisions/0011-a-carrier-for-aws.md).
"""

import email.utils
import logging
import re
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Generic
from urllib.parse import quote, urlsplit

import msgspec
from botocore.awsrequest import AWSPreparedRequest, AWSResponse, HeadersDict
from botocore.client import BaseClient
from botocore.compat import HTTPHeaders
from botocore.credentials import ReadOnlyCredentials
from botocore.exceptions import ClientError, NoCredentialsError
from botocore.parsers import create_parser
from botocore.utils import get_environ_proxies, normalize_url_path

from transforms.sinks.aws_boto3 import decoded
from transforms.sinks.aws_clients import Access
from transforms.sinks.aws_connections import Answer, Connections, Origin
from transforms.sinks.aws_operations import AnswerT_co, Called, Operation
from transforms.sinks.sigv4 import Signer

logger = logging.getLogger(__name__)

SKEWED_CODES = frozenset(
    {
        "InvalidSignatureException",
        "RequestExpired",
        "RequestInTheFuture",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
    }
)
"""Codes of a call that may have been refused because this machine's clock is wrong."""

MOST_SKEW = 240.0
"""Seconds that the clocks may differ. AWS refuses what was signed more than 300 s ago, or ahead."""

_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>[^,]+)/\d{8}/(?P<region>[^/,]+)/(?P<service>[^/,]+)/aws4_request, "
    r"SignedHeaders=(?P<names>[^,]+), Signature=[0-9a-f]{64}"
)
_OF_EACH_CALL = frozenset(
    {
        "amz-sdk-invocation-id",
        "amz-sdk-request",
        "authorization",
        "content-length",
        "host",
        "x-amz-date",
        "x-amz-security-token",
    }
)
"""Headers that boto3 makes anew for each call. The first two tell AWS of boto3's own retries."""

_encode = msgspec.json.Encoder().encode


class NotCarriedError(Exception):
    """boto3 would do something that the carrier does not do. The text says what."""


class Carrier(Generic[AnswerT_co]):
    """A Call over connections that are shared.

    Args:
        operation: what is called.
        access: how boto3 would reach the service.
        connections: those of the worker.

    Raises:
        NotCarriedError: only boto3 can do it.
        botocore's errors: boto3 could not either, for example without credentials.
    """

    def __init__(self, operation: Operation[AnswerT_co], access: Access, connections: Connections) -> None:
        client = access.client
        if client.meta.service_model.resolved_protocol != "json":
            raise NotCarriedError("this version of boto3 does not speak JSON to the service")
        if access.credentials is None:
            raise NoCredentialsError
        self._credentials = access.credentials
        request = _rehearsed(client, operation)
        url = urlsplit(request.url)
        if request.method != "POST" or url.scheme not in ("http", "https") or url.query or not url.hostname:
            raise NotCarriedError(f"{operation.name} is not a POST to a plain URL")
        if get_environ_proxies(request.url).get(url.scheme):
            raise NotCarriedError("a proxy is set for it (HTTPS_PROXY, HTTP_PROXY)")
        self._operation = operation
        host = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
        port = url.port or (443 if url.scheme == "https" else 80)
        if port != (443 if url.scheme == "https" else 80):
            host = f"{host}:{port}"
        headers = {name: _text(value) for name, value in request.headers.items()}
        self._signer = _signer(request, url.path, host, self._credentials.get_frozen_credentials())
        kept = {name: value for name, value in headers.items() if name.lower() not in _OF_EACH_CALL}
        lines = {"Host": host, **kept, "Accept-Encoding": "identity"}
        target = url.path or "/"
        self._head = f"POST {target} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self._parser = create_parser("json")
        self._shape: Any = client.meta.service_model.operation_model(operation.name).output_shape
        self._connections = connections
        self._endpoint = connections.open(Origin(url.scheme, url.hostname, port, access.verify))

    def __call__(self, content: Mapping[str, Any]) -> Called[AnswerT_co]:
        self._connections.close_idle()
        body = _encode(content)
        answer, is_in_doubt = self._exchange(body)
        if answer.status >= 300:
            error = self._error(answer)
            if is_in_doubt or not self._corrects_clock(error, answer):
                raise error
            answer, is_in_doubt = self._exchange(body)
            if answer.status >= 300:
                raise self._error(answer)
        return Called(decoded(answer.body, self._operation), is_in_doubt)

    def _exchange(self, body: bytes) -> tuple[Answer, bool]:
        endpoint = self._endpoint
        signed = self._signer.lines(body, self._credentials.get_frozen_credentials(), time.time() + endpoint.ahead)
        head = f"{self._head}{signed}Content-Length: {len(body)}\r\n\r\n"
        return endpoint.exchange(head.encode("latin-1"), body)

    def _error(self, answer: Answer) -> ClientError:
        """What boto3 makes of an answer that is no success. Raises ResponseParserError if it can make nothing of it."""
        response = {"status_code": answer.status, "headers": HeadersDict(answer.headers), "body": answer.body}
        return ClientError(self._parser.parse(response, self._shape), self._operation.name)

    def _corrects_clock(self, error: ClientError, answer: Answer) -> bool:
        """Whether a call was refused for this machine's clock, and is now signed by the service's.

        The service says its time in every answer. What was refused was not stored, so it may be sent again.
        """
        if error.response.get("Error", {}).get("Code") not in SKEWED_CODES:
            return False
        theirs = _epoch(answer.headers.get("date", ""))
        endpoint = self._endpoint
        if theirs is None or abs(theirs - time.time() - endpoint.ahead) < MOST_SKEW:
            return False
        endpoint.ahead = theirs - time.time()
        logger.warning(
            "this machine's clock is %.0f s %s that of %s: calls are signed by the service's clock",
            abs(endpoint.ahead),
            "behind" if endpoint.ahead > 0 else "ahead of",
            endpoint.origin.host,
        )
        return True

    def close(self) -> None:
        """Give the connections back."""
        self._connections.close(self._endpoint)


def _bytes(body: object) -> bytes:
    if not isinstance(body, bytes):
        raise NotCarriedError("boto3 does not send its body as bytes")
    return body


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _epoch(date: str) -> float | None:
    try:
        return email.utils.parsedate_to_datetime(date).timestamp()
    except (TypeError, ValueError):
        return None


class _NoBody:
    """The body of an answer that nobody gave."""

    def stream(self, *_: Any, **__: Any) -> tuple[bytes, ...]:
        return (b"{}",)


def _rehearsed(client: BaseClient, operation: Operation[Any]) -> AWSPreparedRequest:
    """The request that boto3 makes of an empty call. It is caught before it leaves."""
    caught: list[AWSPreparedRequest] = []

    # To botocore a handler of this event that returns an answer has sent the request.
    def catch(request: AWSPreparedRequest, **_: Any) -> Any:
        caught.append(request)
        return AWSResponse(request.url, 200, HTTPHeaders(), _NoBody())

    event = f"before-send.{client.meta.service_model.service_id.hyphenize()}.{operation.name}"
    client.meta.events.register_first(event, catch)
    try:
        getattr(client, operation.method)(**operation.empty)
    finally:
        client.meta.events.unregister(event, catch)
    if not caught:
        raise NotCarriedError("boto3 sends it another way")
    return caught[0]


def _signer(request: AWSPreparedRequest, path: str, host: str, credentials: ReadOnlyCredentials) -> Signer:
    """A signer that signs as boto3 has signed a request. Raises NotCarriedError if ours cannot."""
    headers = {name.lower(): _text(value) for name, value in request.headers.items()}
    found = _AUTHORIZATION.fullmatch(headers.get("authorization", ""))
    if found is None:
        raise NotCarriedError("boto3 does not sign it with Signature Version 4")
    names = set(found["names"].split(";")) - {"x-amz-date", "x-amz-security-token"}
    signed = {name: " ".join(value.split()) for name, value in {**headers, "host": host}.items() if name in names}
    canonical_path = quote(normalize_url_path(path), safe="/~")
    signer = Signer(found["region"], found["service"], canonical_path, signed)
    moment = datetime.strptime(headers["x-amz-date"], "%Y%m%dT%H%M%S%z").timestamp()
    if headers["authorization"] not in signer.lines(_bytes(request.body), credentials, moment):
        raise NotCarriedError("boto3 signs it another way")
    return signer
