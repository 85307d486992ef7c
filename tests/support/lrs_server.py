"""A real LRS for tests: Ralph, file back end, basic auth, in a virtual environment of its own.

The virtual environment is `.venv-lrs` beside the project, or where `LRS_VENV` says, and is made once.
"""

import base64
import fcntl
import json
import os
import secrets
import shutil
import subprocess
import time
import urllib.error
import urllib.request
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.ports import free_port

# Ralph imports requests without naming it. The file back end needs no extra.
REQUIREMENTS = ["ralph-malph[lrs,cli]==5.1.0", "requests"]
VENV = Path(os.environ.get("LRS_VENV", Path(__file__).resolve().parents[2] / ".venv-lrs"))
# `ralph runserver -b fs` takes one write and answers every other with 500: the file back end's default operation
# is to create its file, and no setting changes that. So this is run in its place.
APPENDING = """
from ralph.backends.data.base import BaseOperationType
from ralph.backends.lrs.fs import FSLRSBackend

FSLRSBackend.default_operation_type = BaseOperationType.APPEND

from ralph.api import app
"""
# For each statement that comes it reads its whole file, to see whether it has the id, and writes its whole history once
# more. For many statements it looks into an index of what it has written instead, and writes no history.
INDEXED = (
    APPENDING
    + """
written = {}
write = FSLRSBackend.write


def write_and_index(self, data, *args, **more):
    statements = list(data)
    count = write(self, statements, *args, **more)
    written.update((statement["id"], statement) for statement in statements)
    return count


def written_of(self, ids, target=None):
    return [written[id_] for id_ in ids if id_ in written]


FSLRSBackend.write = write_and_index
FSLRSBackend.query_statements_by_ids = written_of
FSLRSBackend.append_to_history = lambda self, event: None
"""
)
INSTALL_SECONDS = 600
START_SECONDS = 300


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes


@dataclass(frozen=True)
class Lrs:
    """A running LRS. `url` is its statements resource: where a forwarder posts."""

    url: str
    username: str
    password: str
    python: Path
    """The interpreter that has Ralph: for its own strict model of xAPI."""
    version: str = "1.0.3"
    """Of xAPI."""

    @property
    def host_and_path(self) -> str:
        """`url` as a forwarder's `configuration.url` has it: no scheme."""
        return self.url.removeprefix("http://")

    def request(
        self,
        method: str = "GET",
        body: bytes | None = None,
        password: str | None = None,
        content_type: str = "application/json",
    ) -> Answer:
        credentials = f"{self.username}:{password or self.password}".encode()
        headers = {
            "Authorization": "Basic " + base64.b64encode(credentials).decode(),
            "X-Experience-API-Version": self.version,
            "Content-Type": content_type,
        }
        request = urllib.request.Request(self.url, body, headers, method=method)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=START_SECONDS) as response:  # noqa: S310
                return Answer(response.status, response.read())
        except urllib.error.HTTPError as error:
            return Answer(error.code, error.read())

    def post(self, body: bytes) -> Answer:
        return self.request("POST", body)

    def statements(self) -> dict[str, dict[str, Any]]:
        """Every statement the LRS holds, by id."""
        answer = self.request()
        assert answer.status == 200, answer
        page = json.loads(answer.body)
        assert not page.get("more"), "more statements than one page: raise RALPH_RUNSERVER_MAX_SEARCH_HITS_COUNT"
        return {statement["id"]: statement for statement in page["statements"]}


def install() -> Path:
    """The virtual environment with Ralph in it, made where it is not there yet; skips the test if it cannot be."""
    stamp = VENV / "installed.json"
    VENV.parent.mkdir(parents=True, exist_ok=True)
    with VENV.with_name(VENV.name + ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if stamp.is_file() and json.loads(stamp.read_text()) == REQUIREMENTS:
            return VENV
        try:
            venv.create(VENV, clear=True, with_pip=True)
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"no virtual environment for Ralph: {error}")
        # What is never imported need not be compiled, which takes half of the time.
        quietly = ("--quiet", "--disable-pip-version-check", "--no-compile")
        command = [str(VENV / "bin" / "pip"), "install", *quietly, *REQUIREMENTS]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)  # noqa: S603
        except subprocess.TimeoutExpired:
            pytest.skip(f"Ralph was not installed within {INSTALL_SECONDS} s")
        if done.returncode:
            reason = (done.stderr.strip() or "pip said nothing").splitlines()[-1]
            pytest.skip(f"Ralph cannot be installed: {reason}")
        stamp.write_text(json.dumps(REQUIREMENTS))
    return VENV


def _environment(home: Path) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("RALPH_", "PYTHON"))}
    return {
        **inherited,
        "RALPH_APP_DIR": str(home / "app"),  # auth.json, history.json
        "RALPH_RUNSERVER_BACKEND": "fs",
        "RALPH_BACKENDS__LRS__FS__DEFAULT_DIRECTORY_PATH": str(home / "statements"),
        "RALPH_RUNSERVER_MAX_SEARCH_HITS_COUNT": "100000",  # one page
    }


def await_start(server: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    """Wait until a server answers at `url`. log: what it has said, for the error."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310
                return
        except OSError as error:
            if server.poll() is not None or time.monotonic() > deadline:
                said = log.read_text(errors="replace")[-2000:]
                raise RuntimeError(f"{url} does not answer ({error}):\n{said}") from error
        time.sleep(0.05)


@contextmanager
def running(home: Path, *, indexed: bool = False) -> Iterator[Lrs]:
    """Ralph on a free port, its files in `home`. indexed: it is to take many statements."""
    binaries = install() / "bin"
    environment = _environment(home)
    username, password = "forwarder", secrets.token_urlsafe(12)
    work = home / "work"  # away from any .env, which Ralph would read
    work.mkdir(parents=True)
    (work / "appending.py").write_text(INDEXED if indexed else APPENDING)
    credentials = ["-u", username, "-p", password, "-s", "all", "-N", username, "-A", username, "https://lrs.invalid"]
    subprocess.run(  # noqa: S603
        [binaries / "ralph", "auth", *credentials, "-w"], env=environment, cwd=work, check=True, capture_output=True
    )
    port = free_port()
    log = home / "log"
    command = [str(binaries / "python"), "-m", "uvicorn", "appending:app", "--host", "127.0.0.1", "--port", str(port)]
    with log.open("wb") as output:
        server = subprocess.Popen(  # noqa: S603
            command, env=environment, cwd=work, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        address = f"http://127.0.0.1:{port}"
        await_start(server, f"{address}/__heartbeat__", log)
        yield Lrs(f"{address}/xAPI/statements", username, password, binaries / "python")
    finally:
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


@pytest.fixture(scope="session")
def lrs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lrs]:
    """A real LRS, empty at the start of the test session."""
    home = tmp_path_factory.mktemp("lrs")
    with running(home) as lrs:
        yield lrs
    shutil.rmtree(home)
