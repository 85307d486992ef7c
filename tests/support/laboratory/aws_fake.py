"""Kinesis and Firehose as they behave on a bad day, for unmodified boto3: JSON 1.1 over HTTP, on 127.0.0.1.

Capacity-true: each shard is a pair of token buckets, 1,000 records/s and 1 MB/s, refilled by an injectable clock, so
that entries fail in the middle of a shard's run. On top of that come faults, from a script (call by call) or drawn at
given rates from a seeded random source. Everything that was stored can be read back, in the order it was stored, and
a log tells for each record what its sender was told.

    with AwsFake() as fake:
        fake.add_stream("stream", shards=2)
        fake.faults.script += ["answer_lost", "throttle_some", "ok"]
        client = boto3.client("kinesis", endpoint_url=fake.endpoint, ...)
"""

import base64
import hashlib
import random
import socket
import ssl
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from email.message import Message
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

import msgspec

Clock = Callable[[], float]

RECORDS_PER_SECOND = 1000.0
BYTES_PER_SECOND = 1_000_000.0
HASH_KEYS = 1 << 128
ACCOUNT = "111122223333"

Word = Literal[
    "ok",
    # Per entry: each entry of the call meets it with probability one half, in the middle of runs.
    "throttle_some",
    "internal_stored",
    "internal_not_stored",
    # Per call.
    "lying_count",
    "call_throttled",
    "call_500_stored",
    "call_500_not_stored",
    "call_503",
    "expired_token",
    "answer_lost",
    "cut_before_storing",
    "garbage",
    "slow",
]

AMBIGUOUS: frozenset[str] = frozenset(
    {"internal_stored", "internal_not_stored", "call_500_stored", "call_500_not_stored", "call_503"}
    | {"answer_lost", "cut_before_storing", "garbage"}
)
"""After these a sender cannot know whether the record is stored, so that it may come twice."""

_STORED_ALL_THE_SAME = {"call_500_stored", "answer_lost", "garbage"}


class TokenBucket:
    """`rate` tokens a second, at most one second's worth; not thread-safe."""

    def __init__(self, rate: float, clock: Clock) -> None:
        self.rate = rate
        self._clock = clock
        self._tokens = rate
        self._at = clock()

    def has(self, tokens: float) -> bool:
        now = self._clock()
        self._tokens = min(self.rate, self._tokens + (now - self._at) * self.rate)
        self._at = now
        return self._tokens >= tokens

    def take(self, tokens: float) -> None:
        self._tokens -= tokens


@dataclass(frozen=True)
class Stored:
    """A record as it lies in a shard or a delivery stream. `sequence` grows with the time of storing."""

    sequence: int
    shard: str
    partition_key: str
    data: bytes


@dataclass
class Shard:
    id: str
    first_hash: int
    last_hash: int
    records_bucket: TokenBucket
    bytes_bucket: TokenBucket
    closed: bool = False
    parents: tuple[str, ...] = ()


@dataclass
class Faults:
    """What goes wrong: `script` first, a word per call; then at `rates`, a probability per call. `delay`: of `slow`."""

    script: list[Word] = field(default_factory=list)
    rates: dict[Word, float] = field(default_factory=dict)
    delay: float = 0.05
    seed: int = 0
    injected: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)  # noqa: S311

    def next(self) -> Word:
        word: Word = self.script.pop(0) if self.script else self._drawn()
        if word != "ok":
            self.injected[word] += 1
        return word

    def _drawn(self) -> Word:
        at = self.random.random()
        for word, rate in self.rates.items():
            at -= rate
            if at < 0:
                return word
        return "ok"


class Stream:
    """A data stream, or (with one shard and another capacity) a delivery stream."""

    def __init__(
        self,
        name: str,
        region: str,
        shards: int,
        clock: Clock,
        *,
        records_per_second: float = RECORDS_PER_SECOND,
        bytes_per_second: float = BYTES_PER_SECOND,
        kind: Literal["streams", "firehose"] = "streams",
    ) -> None:
        self.name = name
        self.region = region
        self.kind = kind
        self.status = "ACTIVE"
        self.source = "DirectPut"
        self.strategy: str | None = None
        self.max_record_kib: int | None = None
        self.stored: list[Stored] = []
        # data -> words its sender was told of it, in the order of the calls.
        self.told: defaultdict[bytes, list[str]] = defaultdict(list)
        self._clock = clock
        self._rates = (records_per_second, bytes_per_second)
        self._shard_ids = 0
        step = HASH_KEYS // shards
        self.shards = [
            self._new_shard(number * step, HASH_KEYS - 1 if number == shards - 1 else (number + 1) * step - 1)
            for number in range(shards)
        ]

    def _new_shard(self, first: int, last: int, parents: tuple[str, ...] = ()) -> Shard:
        records, bytes_ = (TokenBucket(rate, self._clock) for rate in self._rates)
        shard = Shard(f"shardId-{self._shard_ids:012d}", first, last, records, bytes_, parents=parents)
        self._shard_ids += 1
        return shard

    @property
    def arn(self) -> str:
        what = "stream" if self.kind == "streams" else "deliverystream"
        service = "kinesis" if self.kind == "streams" else "firehose"
        return f"arn:aws:{service}:{self.region}:{ACCOUNT}:{what}/{self.name}"

    def split(self, shard_id: str) -> None:
        parent = self._close(shard_id)
        middle = (parent.first_hash + parent.last_hash) // 2
        self.shards.append(self._new_shard(parent.first_hash, middle, (shard_id,)))
        self.shards.append(self._new_shard(middle + 1, parent.last_hash, (shard_id,)))

    def merge(self, shard_id: str, other_id: str) -> None:
        one, other = self._close(shard_id), self._close(other_id)
        if one.last_hash + 1 != other.first_hash:
            raise ValueError("only adjacent shards merge")
        self.shards.append(self._new_shard(one.first_hash, other.last_hash, (shard_id, other_id)))

    def _close(self, shard_id: str) -> Shard:
        shard = next(shard for shard in self.shards if shard.id == shard_id and not shard.closed)
        shard.closed = True
        return shard

    def open_shards(self) -> list[Shard]:
        return [shard for shard in self.shards if not shard.closed]

    def shard_of(self, partition_key: str) -> Shard:
        if self.strategy == "AUTO":
            shards = self.open_shards()
            return shards[len(self.stored) % len(shards)]
        key = int.from_bytes(hashlib.md5(partition_key.encode()).digest())  # noqa: S324 - as the service does
        return next(shard for shard in self.shards if not shard.closed and shard.first_hash <= key <= shard.last_hash)

    def put(self, data: bytes, partition_key: str) -> Stored | None:
        """Store it if its shard has room now."""
        shard = self.shard_of(partition_key)
        size = len(data) + len(partition_key.encode())
        if not (shard.records_bucket.has(1) and shard.bytes_bucket.has(size)):
            return None
        shard.records_bucket.take(1)
        shard.bytes_bucket.take(size)
        stored = Stored(len(self.stored) + 1, shard.id, partition_key, data)
        self.stored.append(stored)
        return stored

    def data(self) -> list[bytes]:
        """What was stored, in the order it was."""
        return [stored.data for stored in self.stored]


class AwsFake:
    """The server. `denied` holds actions that are refused (`firehose:PutRecordBatch`), `calls` counts all others.

    `invalid` holds data for which the service refuses a call, with all that is in it. `ahead`: seconds of its clock,
    by which it looks at the date of what is signed; None: it does not look. `tokens` are the security tokens of the
    calls, in their order; `by_boto3` counts those calls that boto3 itself has sent.
    """

    def __init__(
        self, faults: Faults | None = None, clock: Clock = time.monotonic, tls: ssl.SSLContext | None = None
    ) -> None:
        self.faults = faults or Faults()
        self.clock = clock
        self.denied: set[str] = set()
        self.invalid: set[bytes] = set()
        self.calls: Counter[str] = Counter()
        self.call_sizes: list[int] = []
        self.content_types: set[str] = set()
        self.ahead: float | None = None
        self.tokens: list[str | None] = []
        self.by_boto3 = 0
        self.before_put: Callable[[], None] = lambda: None
        self.before_describe: Callable[[], None] = lambda: None
        self._streams: dict[tuple[str, str, str], Stream] = {}
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.fake = self
        self._scheme = "http" if tls is None else "https"
        if tls is not None:
            # The handshake is for the thread of the connection.
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), name="aws-fake", daemon=True)

    @property
    def port(self) -> int:
        return self._server.server_address[1]

    @property
    def endpoint(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self.port}"

    @property
    def open_connections(self) -> int:
        return self._server.open_connections

    def __enter__(self) -> "AwsFake":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._server.drop_connections()
        self._thread.join()

    def add_stream(self, name: str, shards: int = 1, region: str = "us-east-1", **capacity: float) -> Stream:
        stream = Stream(name, region, shards, self.clock, **capacity)  # type: ignore[arg-type]
        self._streams["streams", region, name] = stream
        return stream

    def add_delivery_stream(self, name: str, region: str = "us-east-1", **capacity: float) -> Stream:
        # Quota of a direct-put delivery stream in most regions: 100,000 records/s, 1 MiB/s.
        capacity = {"records_per_second": 100_000.0, "bytes_per_second": 1024.0 * 1024.0, **capacity}
        stream = Stream(name, region, 1, self.clock, kind="firehose", **capacity)
        self._streams["firehose", region, name] = stream
        return stream

    def refused_signature(self, headers: Message) -> tuple[int, bytes] | None:
        """The answer to a call that was signed too long ago, or ahead, by this server's clock."""
        if self.ahead is None:
            return None
        signed = datetime.strptime(headers["X-Amz-Date"], "%Y%m%dT%H%M%S%z").timestamp()
        if abs(signed - time.time() - self.ahead) <= 300:
            return None
        return _error(400, "InvalidSignatureException", f"Signature expired: {headers['X-Amz-Date']} is now earlier")

    # From here on: one call at a time, in a connection's thread.

    def answer(self, target: str, region: str, body: bytes) -> tuple[int, bytes] | None:
        """(status, body) of a call; None: the connection is cut without an answer."""
        service, operation = target.split(".", 1)
        action = ("kinesis:" if service.startswith("Kinesis") else "firehose:") + operation
        if action in self.denied:
            return _error(400, "AccessDeniedException", f"User is not authorized to perform: {action}")
        request: dict[str, Any] = msgspec.json.decode(body)
        with self._lock:
            self.calls[operation] += 1
            kind = "streams" if action.startswith("kinesis:") else "firehose"
            stream = self._streams.get(
                (kind, region, request.get("StreamName") or request.get("DeliveryStreamName", ""))
            )
            if stream is None:
                return _error(400, "ResourceNotFoundException", f"Stream under account {ACCOUNT} not found.")
            if operation in ("DescribeStreamSummary", "DescribeDeliveryStream"):
                self.before_describe()
                return 200, msgspec.json.encode(_description(stream))
            if operation == "ListShards":
                return 200, msgspec.json.encode({"Shards": [_shard_description(shard) for shard in stream.shards]})
            if operation in ("PutRecords", "PutRecordBatch"):
                entries = request["Records"]
            elif operation == "PutRecord":
                entries = [request.get("Record") or {key: request[key] for key in ("Data", "PartitionKey")}]
            else:
                return _error(400, "UnknownOperationException", operation)
            refusal = _limits_broken(stream, entries)
            if refusal is None and any(base64.b64decode(entry["Data"]) in self.invalid for entry in entries):
                refusal = "InvalidArgumentException", "a record of the call is not valid"
            if refusal:
                return _error(400, *refusal)
            self.before_put()
            word = self.faults.next()
            self.call_sizes.append(len(entries))
            status, answer, cut = self._put(stream, operation, entries, word)
        if word == "slow":
            time.sleep(self.faults.delay)
        return None if cut else (status, answer)

    def _put(
        self, stream: Stream, operation: str, entries: list[dict[str, str]], word: Word
    ) -> tuple[int, bytes, bool]:
        decoded = [(base64.b64decode(entry["Data"]), entry.get("PartitionKey", "")) for entry in entries]
        if word not in ("ok", "slow", "lying_count", "throttle_some", "internal_stored", "internal_not_stored"):
            for data, key in decoded:
                stream.told[data].append(word)
                if word in _STORED_ALL_THE_SAME:
                    stream.put(data, key)
            return _failed_call(word)
        results = [self._put_entry(stream, data, key, word) for data, key in decoded]
        failed = sum("ErrorCode" in result for result in results)
        count = 0 if word == "lying_count" else failed
        if operation == "PutRecord":
            if failed:
                code = "ProvisionedThroughputExceededException" if stream.kind == "streams" else _UNAVAILABLE
                return *_error(400 if stream.kind == "streams" else 503, code, "Rate exceeded"), False
            return 200, msgspec.json.encode(results[0]), False
        if operation == "PutRecords":
            return 200, msgspec.json.encode({"FailedRecordCount": count, "Records": results}), False
        return 200, msgspec.json.encode({"FailedPutCount": count, "RequestResponses": results}), False

    def _put_entry(self, stream: Stream, data: bytes, key: str, word: Word) -> dict[str, str]:
        hit = word in ("throttle_some", "internal_stored", "internal_not_stored") and self.faults.random.random() < 0.5
        if hit and word != "throttle_some":
            stream.told[data].append(word)
            if word == "internal_stored":
                stream.put(data, key)
            return {"ErrorCode": "InternalFailure", "ErrorMessage": "Internal Service Failure"}
        stored = None if hit else stream.put(data, key)
        if stored is None:
            stream.told[data].append("throttled")
            if stream.kind == "firehose":
                return {"ErrorCode": _UNAVAILABLE, "ErrorMessage": "Slow down."}
            return {
                "ErrorCode": "ProvisionedThroughputExceededException",
                "ErrorMessage": f"Rate exceeded for shard {stream.shard_of(key).id} in stream {stream.name}"
                f" under account {ACCOUNT}.",
            }
        stream.told[data].append("stored")
        if stream.kind == "firehose":
            return {"RecordId": f"record-{stored.sequence}"}
        return {"SequenceNumber": f"{4960000000000000000 + stored.sequence}", "ShardId": stored.shard}


_UNAVAILABLE = "ServiceUnavailableException"


def _error(status: int, code: str, message: str) -> tuple[int, bytes]:
    return status, msgspec.json.encode({"__type": code, "message": message})


def _failed_call(word: Word) -> tuple[int, bytes, bool]:
    if word in ("answer_lost", "cut_before_storing"):
        return 0, b"", True
    if word == "garbage":
        return 200, b'{"Records": [{"Sequ', False
    status, code = {
        "call_throttled": (400, "ProvisionedThroughputExceededException"),
        "call_500_stored": (500, "InternalFailure"),
        "call_500_not_stored": (500, "InternalFailure"),
        "call_503": (503, "ServiceUnavailable"),
        "expired_token": (400, "ExpiredTokenException"),
    }[word]
    return *_error(status, code, "as asked for"), False


def _limits_broken(stream: Stream, entries: list[dict[str, str]]) -> tuple[str, str] | None:
    """(code, message): the service's model is checked before its limits, and says so by another code."""
    sizes = [len(base64.b64decode(entry["Data"])) + len(entry.get("PartitionKey", "").encode()) for entry in entries]
    if not 1 <= len(entries) <= 500:
        return "ValidationException", "1 validation error detected: Value at 'records': at most 500"
    if any(len(entry.get("PartitionKey", "x").encode("utf-16-le")) not in range(2, 513) for entry in entries):
        return "ValidationException", "1 validation error detected: Value at 'partitionKey': 1 to 256"
    if stream.kind == "firehose":
        record_limit, request_limit = 1000 * 1024, 4 * 1024 * 1024
    else:
        record_limit = (stream.max_record_kib or 1024) * 1024
        request_limit = (10 if record_limit > 1024 * 1024 else 5) * 1024 * 1024
    if max(sizes) > record_limit:
        return "InvalidArgumentException", f"Record size exceeds the limit of {record_limit} bytes"
    if sum(sizes) > request_limit:
        return "InvalidArgumentException", f"Request size exceeds the limit of {request_limit} bytes"
    return None


def _shard_description(shard: Shard) -> dict[str, object]:
    hashes = {"StartingHashKey": str(shard.first_hash), "EndingHashKey": str(shard.last_hash)}
    sequence = {"StartingSequenceNumber": "1"}
    described: dict[str, object] = {"ShardId": shard.id, "HashKeyRange": hashes, "SequenceNumberRange": sequence}
    return described | dict(zip(("ParentShardId", "AdjacentParentShardId"), shard.parents, strict=False))


def _description(stream: Stream) -> dict[str, object]:
    if stream.kind == "firehose":
        described: dict[str, object] = {
            "DeliveryStreamName": stream.name,
            "DeliveryStreamARN": stream.arn,
            "DeliveryStreamStatus": stream.status,
            "DeliveryStreamType": stream.source,
            "VersionId": "1",
            "Destinations": [],
            "HasMoreDestinations": False,
        }
        return {"DeliveryStreamDescription": described}
    described = {
        "StreamName": stream.name,
        "StreamARN": stream.arn,
        "StreamStatus": stream.status,
        "RetentionPeriodHours": 24,
        "StreamCreationTimestamp": 1.6e9,
        "EnhancedMonitoring": [],
        "OpenShardCount": len(stream.open_shards()),
    }
    if stream.strategy is not None:
        described["RecordDistributionStrategy"] = stream.strategy
    if stream.max_record_kib is not None:
        described["MaxRecordSizeInKiB"] = stream.max_record_kib
    return {"StreamDescriptionSummary": described}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    fake: AwsFake

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(address, handler)
        self._connections: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        # Of a sender that was killed, or that did not like a certificate.
        if not isinstance(sys.exc_info()[1], (ConnectionError, ssl.SSLError)):
            super().handle_error(request, client_address)

    @property
    def open_connections(self) -> int:
        return len(self._connections)

    def drop_connections(self) -> None:
        for connection in list(self._connections):
            _cut(connection)


def _cut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # The other side was first.


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        fake = self.server.fake
        size = int(self.headers["Content-Length"])
        body = self.rfile.read(size)
        if len(body) < size:
            self.close_connection = True  # The sender was killed while it sent.
            return
        content_type = self.headers["Content-Type"]
        fake.content_types.add(content_type)
        # Credential=AKID/20260101/us-east-1/kinesis/aws4_request
        region = self.headers["Authorization"].split("/")[2]
        if content_type != "application/x-amz-json-1.1":
            answer: tuple[int, bytes] | None = _error(400, "SerializationException", content_type)
        else:
            fake.tokens.append(self.headers["X-Amz-Security-Token"])
            fake.by_boto3 += "amz-sdk-invocation-id" in self.headers
            answer = fake.refused_signature(self.headers)
            answer = answer or fake.answer(self.headers["X-Amz-Target"], region, body)
        if answer is None:
            self.close_connection = True
            _cut(self.connection)
            return
        status, content = answer
        head = (
            f"HTTP/1.1 {status} -\r\nContent-Type: application/x-amz-json-1.1\r\nx-amzn-RequestId: fake\r\n"
            f"Date: {formatdate(time.time() + (fake.ahead or 0.0), usegmt=True)}\r\n"
            f"Content-Length: {len(content)}\r\n\r\n"
        )
        self.wfile.write(head.encode() + content)

    def log_message(self, format: str, *args: object) -> None:
        """Silence."""
