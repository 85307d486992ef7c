"""A receiver to look at: `python examples/receiver.py 8099 > received.jsonl`.

Takes every POST with status 200 and prints one line of JSON for it: its path, its Idempotency-Key and its body. It
looks at no credential and prints none. It ends with Ctrl-C or SIGTERM.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

HOST = "127.0.0.1"


class Handler(BaseHTTPRequestHandler):
    """Answers one connection's requests. HTTP/1.1, so that a connection serves many of them."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        line = {"path": self.path, "key": self.headers["Idempotency-Key"], "body": body}
        # One call to `write`, since several connections print at once. Before the answer, so that the sender's receipt
        # never comes before the line.
        sys.stdout.write(json.dumps(line, ensure_ascii=False) + "\n")
        sys.stdout.flush()
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing: each request has its line already."""


def main(port: int) -> None:
    """Serve on `port` of this machine, until the process is ended."""
    ThreadingHTTPServer((HOST, port), Handler).serve_forever()


if __name__ == "__main__":
    try:
        main(int(sys.argv[1]))
    except KeyboardInterrupt:
        sys.exit(0)
