"""A real LRS of xAPI 2.0 for tests: xapi-rs, on a PostgreSQL of its own."""

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.lrs_server import Lrs, await_start
from tests.support.ports import free_port

XAPI_RS = Path(os.environ.get("XAPI_RS", Path(__file__).resolve().parents[2] / ".xapi-rs" / "bin" / "xapi-rs"))
_USER = "admin@lrs.invalid"


def _postgres() -> Path:
    """The folder with PostgreSQL's programs; Debian has them beside the PATH."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    found = next((folder for folder in folders if (folder / "initdb").is_file()), None)
    if found is None:
        named = shutil.which("initdb")
        if named is None:
            pytest.skip("PostgreSQL is absent: Debian's package `postgresql` has it")
        found = Path(named).parent
    return found


def _environment(home: Path, database_port: int, port: int, password: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        # Where it makes its folders. It was built with cargo, and asks for this as if it were run with it.
        "CARGO_MANIFEST_DIR": str(home),
        "DB_SERVER_URL": f"postgresql://lrs:none@127.0.0.1:{database_port}",
        "DB_NAME": "lrs",
        "DB_MAX_CONNECTIONS": "4",
        "DB_MIN_CONNECTIONS": "1",
        "DB_ACQUIRE_TIMEOUT_SECS": "8",
        "DB_IDLE_TIMEOUT_SECS": "60",
        "DB_MAX_LIFETIME_SECS": "600",
        "DB_STATEMENTS_PAGE_LEN": "20",
        "LRS_HOST": "127.0.0.1",
        "LRS_PORT": str(port),
        "LRS_AUTHORITY_IFI": _USER,
        "LRS_MODE": "auth",
        "LRS_ROOT_EMAIL": _USER,
        "LRS_ROOT_PASSWORD": password,
        "LRS_USER_CACHE_LEN": "10",
        "LRS_EXTERNAL_URL": f"http://127.0.0.1:{port}/",
        "EXT_DEFAULT_LANGUAGE": "en",
        "JWS_STRICT": "false",
        "RUST_LOG": "error",
        "ROCKET_ADDRESS": "127.0.0.1",
        "ROCKET_PORT": str(port),
        "ROCKET_SECRET_KEY": secrets.token_hex(32),
        "ROCKET_LOG_LEVEL": "critical",
    }


@pytest.fixture(scope="session")
def lrs_2() -> Iterator[Lrs]:
    """A real LRS of xAPI 2.0, empty at the start of the test session, whose pages have 20 statements."""
    if not XAPI_RS.is_file():
        pytest.skip(f"{XAPI_RS} is absent: tests/lrs/build_xapi_rs.sh makes it")
    programs = _postgres()
    # Not in pytest's directory: another user than root has no way into it, and PostgreSQL does not run as root.
    with tempfile.TemporaryDirectory(prefix="xapi-rs-") as directory:
        home = Path(directory)
        home.chmod(0o755)
        for name in ("logs", "static", "data"):
            (home / name).mkdir()
        user = "postgres" if os.getuid() == 0 else None
        if user is not None:
            shutil.chown(home / "data", user)
        yield from _run(home, programs, user)


def _run(home: Path, programs: Path, user: str | None) -> Iterator[Lrs]:
    database_port, port, password = free_port(), free_port(), secrets.token_urlsafe(12)
    data = str(home / "data")
    initdb = [str(programs / "initdb"), "-D", data, "-A", "trust", "-U", "lrs", "--no-sync"]
    subprocess.run(initdb, user=user, cwd="/", check=True, stdout=subprocess.DEVNULL)  # noqa: S603
    log = home / "log"
    with log.open("wb") as output:
        options = ["-p", str(database_port), "-k", "", "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
        database = subprocess.Popen(  # noqa: S603
            [programs / "postgres", "-D", data, *options], user=user, cwd="/", stdout=output, stderr=output
        )
        try:
            tries = ["--host=127.0.0.1", f"--port={database_port}", "--username=lrs"]
            ready = [str(programs / "pg_isready"), "--timeout=20", *tries]
            while subprocess.run(ready, stdout=subprocess.DEVNULL, check=False).returncode:  # noqa: S603
                assert database.poll() is None, log.read_text()
                time.sleep(0.05)
            subprocess.run([programs / "createdb", *tries, "lrs"], check=True)  # noqa: S603
            environment = _environment(home, database_port, port, password)
            server = subprocess.Popen([XAPI_RS], env=environment, cwd=home, stdout=output, stderr=output)  # noqa: S603
            try:
                await_start(server, f"http://127.0.0.1:{port}/about", log)
                yield Lrs(f"http://127.0.0.1:{port}/statements", _USER, password, Path(sys.executable), "2.0.0")
            finally:
                server.terminate()
                server.wait(10)
        finally:
            database.terminate()
            database.wait(10)
