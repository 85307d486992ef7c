"""A receiver to look at: `python receiver.py 8099 > received.jsonl`.

Takes every POST with status 200 and prints one line of JSON for it: its path, its Idempotency-Key and its body. With a
second word such as `422` it refuses every POST with that status, and prints nothing. It looks at no credential and
prints none. It needs nothing but Python, and ends with Ctrl-C or SIGTERM.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

HOST = "127.0.0.1"
PORT = 8099


class Handler(BaseHTTPRequestHandler):
    """Answers one connection's requests. HTTP/1.1, so that a connection serves many of them."""

    protocol_version = "HTTP/1.1"
    status = 200

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        line = {"path": self.path, "key": self.headers["Idempotency-Key"], "body": body}
        if self.status == 200:
            # One call to `write`, since several connections print at once. Before the answer, so that the sender's
            # receipt never comes before the line.
            sys.stdout.write(json.dumps(line, ensure_ascii=False) + "\n")
            sys.stdout.flush()
        self.send_response(self.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing: each request has its line already."""


def main(port: int, status: int) -> None:
    """Serve on `port` of this machine, until the process is ended."""
    Handler.status = status
    ThreadingHTTPServer((HOST, port), Handler).serve_forever()


if __name__ == "__main__":
    words = [int(word) for word in sys.argv[1:]]
    try:
        main(*words, *(PORT, 200)[len(words) :])
    except OSError as error:
        sys.exit(f"cannot listen at port {(words or [PORT])[0]}: {error.strerror}")
    except KeyboardInterrupt:
        sys.exit(0)
