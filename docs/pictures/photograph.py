"""Photographs the page of a run, for docs/operations.md: `python docs/pictures/photograph.py`.

It makes a sample, runs the job on it to a receiver of its own that refuses some of it, and takes report.png of the
page in Chromium (CHROMIUM names it, if it is not on the PATH). Two runs: the page compares with the one before.
"""

import http.server
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from playwright.sync_api import sync_playwright

HERE = Path(__file__).parent
FORWARDERS = (
    ("gradebook", "Gradebook of the school", '{"kind": "score"}', 200),
    ("attendance", "Who began and who completed", '{"kind": "event"}', 200),
    ("analytics", "Analytics and dashboards", "{}", 200),
    ("old-lms", "The old LMS, which is being switched off", '{"kind": "status"}', 410),
    ("parents-app", "Parents' app", '{"kind": "score", "score": {"$lt": 5}}', 503),
)


class Receiver(http.server.BaseHTTPRequestHandler):
    """Answers each forwarder with its status."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(int(self.path.rpartition("/")[2]))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


def document(id_: str, description: str, query: str, url: str) -> dict[str, object]:
    configuration = {"protocol": "http", "url": url, "maxRetries": 5}
    return {"_id": id_, "description": description, "active": True, "query": query, "configuration": configuration}


def run(folder: Path, *arguments: str) -> None:
    """A verb of the command, whose dead letters are no failure here."""
    command = [sys.executable, "-m", "commands", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(HERE.parents[1])}
    if subprocess.run(command, cwd=folder, env=environment, check=False).returncode not in (0, 3):  # noqa: S603
        raise SystemExit(f"{' '.join(command)} failed")


def main() -> None:
    """Take the picture."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        address = f"127.0.0.1:{server.server_port}"
        documents = [document(id_, text, query, f"{address}/{status}") for id_, text, query, status in FORWARDERS]
        (folder / "forwarders.json").write_text(json.dumps(documents))
        usual = ["--forwarders=forwarders.json", "--output=out", "--allow_network=127.0.0.1/32", "--max_backoff=0.2s"]
        for day, sessions in enumerate(("150", "250")):
            run(folder, "sample", f"--sessions={sessions}", f"--seed={day}", f"--output=in/day-{day}.jsonl")
            run(folder, "run", f"--input=in/day-{day}.jsonl", "--outage_budget=4s", *usual)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=os.environ.get("CHROMIUM") or shutil.which("chromium"))
            page = browser.new_page(viewport={"width": 1000, "height": 1500})
            page.goto((folder / "out/report.html").as_uri())
            page.screenshot(path=HERE / "report.png")
            browser.close()
    server.shutdown()


if __name__ == "__main__":
    main()
