#!/usr/bin/env bash
# botocore does not correct its clock, though it computes by how much it is wrong: each retry is refused as the first try.
#
# Versions:  botocore 1.44.5 (boto3 1.44.5).
# Behaviour: A service refuses a signature made more than five minutes off (RequestExpired, InvalidSignatureException) and
#            says its own time in the Date header. Most of AWS' other SDKs sign the next try by that time. botocore
#            keeps the difference only to write it into the header amz-sdk-request, as the time that a retry has. The
#            signature of every try is by the machine's clock. So a machine an hour off can put no record at all, for as
#            long as it is off, with retries or without.
# Source:    botocore/endpoint.py (_calculate_ttl and what calls it) and botocore/auth.py (the time of a signature).
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check boto3==1.44.5 botocore==1.44.5
cd "$place"
"$place/venv/bin/python" - <<'PYTHON'
import json
import threading
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

AHEAD = timedelta(hours=1)
signed_at = []


class Service(BaseHTTPRequestHandler):
    """A service an hour ahead of this machine, which refuses what is signed five minutes off."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        signed = datetime.strptime(self.headers["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc)
        now = datetime.now(timezone.utc) + AHEAD
        signed_at.append(signed - now)
        is_right = abs(signed - now) < timedelta(minutes=5)
        # Of a code that botocore tries again, so that there is a second signature to look at.
        answer = {"SequenceNumber": "1", "ShardId": "0"} if is_right else {"__type": "RequestTimeTooSkewed"}
        body = json.dumps(answer).encode()
        self.send_response_only(200 if is_right else 503)
        self.send_header("Date", format_datetime(now, usegmt=True))
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
threading.Thread(target=server.serve_forever, daemon=True).start()
client = boto3.client(
    "kinesis",
    region_name="us-east-1",
    endpoint_url=f"http://127.0.0.1:{server.server_port}",
    aws_access_key_id="an-id",
    aws_secret_access_key="a-secret",
    config=Config(retries={"mode": "standard", "total_max_attempts": 3}),
)
for call in (1, 2):
    try:
        client.put_record(StreamName="a", Data=b"{}", PartitionKey="u")
    except ClientError as error:
        print(f"call {call} fails: {error.response['Error']['Code']}")
for off in signed_at:
    print(f"a try was signed {off.total_seconds() / 60:+.0f} minutes from the service's time")
assert len(signed_at) == 6 and all(abs(off + AHEAD) < timedelta(minutes=1) for off in signed_at)
PYTHON
