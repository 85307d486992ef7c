#!/usr/bin/env python3
"""rehearse.py VENV: the commands of compose.yaml and the Helm chart as processes, where there is no container engine.

VENV is what the stage `registry-build` of the Dockerfile makes; `deploy/rehearse.sh` makes it. Each command runs in a
root of its own that is read-only but for what the file mounts, as user 10001, without a network but its own loopback,
and with the variables that the file gives it and no others. Needs root, unshare and chroot of util-linux, openssl, and
helm for the chart's half (HELM, or on the PATH).

It checks: the registry is healthy by the image's own health check, and answers its metrics; a run of the job's service
delivers to a receiver, leaves metrics, touches what its health check asks, and ends upon SIGTERM; the chart's registry
serves over TLS, and a run of its CronJob reads the forwarders from it.
"""

import base64
import gzip
import http.server
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import yaml

HERE = Path(__file__).resolve().parent
USER = "10001:10001"
WRITABLE = ("data", "output", "state", "scratch", "metrics", "tmp")
REGISTRY = "t-session-forwarder-registry"
RECEIVER = 9080
WITHIN = 120.0
"""Seconds that anything may take."""

# What an image has and this machine's /etc may have: name lookups, and whom to trust.
ETC = ("passwd", "group", "nsswitch.conf", "ssl", "ld.so.cache", "alternatives", "mime.types")


class Receiver(http.server.BaseHTTPRequestHandler):
    """Takes everything."""

    taken: ClassVar[list[bytes]] = []

    def do_POST(self) -> None:
        self.taken.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def run(*command: str) -> None:
    subprocess.run(command, check=True)  # noqa: S603


class Root:
    """A root directory as a container has it, in a mount namespace of this process."""

    def __init__(self, path: Path, venv: Path) -> None:
        self.venv = venv
        self.path = path
        run("mount", "--make-rprivate", "/")
        run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", str(self.path))
        interpreter = subprocess.run(  # noqa: S603
            [venv / "bin/python", "-c", "import sys; print(sys.base_prefix)"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        for name in ("bin", "sbin", "lib", "lib64"):
            if (source := Path("/") / name).is_symlink():
                (self.path / name).symlink_to(source.readlink())
            elif source.exists():
                self.bind(source)
        for place in ("/usr", interpreter, str(venv)):
            self.bind(Path(place))
        self.bind(Path("/dev"))
        (self.path / "proc").mkdir()
        run("mount", "-t", "proc", "proc", str(self.path / "proc"))
        (self.path / "etc").mkdir()
        for name in ETC:
            source = Path("/etc") / name
            if source.is_dir():
                shutil.copytree(
                    source,
                    self.path / "etc" / name,
                    symlinks=False,
                    ignore_dangling_symlinks=True,
                    ignore=shutil.ignore_patterns("private"),
                )
            elif source.exists():
                shutil.copy(source, self.path / "etc" / name)
        (self.path / "etc/hosts").write_text(f"127.0.0.1 localhost {REGISTRY}\n")
        (self.path / "opt/bin").mkdir(parents=True)
        for script, name in (("every.sh", "every"), ("once.sh", "once"), ("healthy.py", "healthy")):
            shutil.copy(HERE / script, self.path / "opt/bin" / name)
            (self.path / "opt/bin" / name).chmod(0o755)
        for name in ("in", "run/secrets", "keys", "tls"):
            (self.path / name).mkdir(parents=True)
        for name in WRITABLE:
            (self.path / name).mkdir()
            run("mount", "-t", "tmpfs", "-o", "mode=1777", "tmpfs", str(self.path / name))

    def bind(self, source: Path) -> None:
        """Show a directory of this machine in the root, read-only but for devices."""
        target = self.path / source.relative_to("/")
        target.mkdir(parents=True, exist_ok=True)
        run("mount", "--rbind", str(source), str(target))
        if source != Path("/dev"):
            run("mount", "-o", "remount,bind,ro", str(target))

    def seal(self) -> None:
        """From now on nothing of the root can be written but what is `WRITABLE`."""
        run("mount", "-o", "remount,ro", str(self.path))

    def start(self, command: Sequence[str], variables: Mapping[str, str] = {}) -> subprocess.Popen[str]:
        """Start a command as the image would. Its output is one pipe."""
        path = f"{self.venv}/bin:/opt/bin:/usr/local/bin:/usr/bin:/bin"
        given = {
            "PATH": path,
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "TMPDIR": "/scratch",
            **variables,
        }
        words = ["chroot", f"--userspec={USER}", str(self.path), "/usr/bin/env", "-i", "--chdir=/data"]
        words += [f"{name}={value}" for name, value in given.items()] + list(command)
        print("$", shlex.join(command), flush=True)
        return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)  # noqa: S603

    def ask(self, command: Sequence[str], variables: Mapping[str, str] = {}) -> str:
        """Run a command to its end, and give what it says. It ends this program if it fails."""
        process = self.start(command, variables)
        said, _ = process.communicate(timeout=WITHIN)
        if process.returncode:
            sys.exit(f"status {process.returncode}: {said}")
        return said


def until(what: str, is_so: Callable[[], bool], process: subprocess.Popen[str] | None = None) -> None:
    """Wait for something to be so."""
    deadline = time.monotonic() + WITHIN
    while not is_so():
        if process is not None and process.poll() is not None:
            said, _ = process.communicate()
            sys.exit(f"{what}: the process ended with status {process.returncode}: {said}")
        if time.monotonic() > deadline:
            sys.exit(f"{what}: not within {WITHIN:.0f} s")
        time.sleep(0.2)
    print("  ok:", what, flush=True)


def ended(process: subprocess.Popen[str]) -> int:
    """End a process as a container engine does, and give its status."""
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=WITHIN)
    return process.returncode


def is_healthy(root: Root, url: str = "http://127.0.0.1:8380/health") -> bool:
    process = root.start(["healthy", url])
    process.communicate(timeout=WITHIN)
    return process.returncode == 0


def new_client(root: Root, *scopes: str) -> tuple[str, str]:
    """Key and secret of a new client, made as docs/deploy.md says."""
    words = ["python", "-m", "registry", "client", "add", "--store", "sqlite:////data/forwarders.db"]
    said = root.ask([*words, "--organisation", "school-1", *(part for scope in scopes for part in ("--scope", scope))])
    lines = dict(line.split(maxsplit=1) for line in said.splitlines()[:2])
    return lines["key"], lines["secret"]


def create_forwarder(client: tuple[str, str]) -> None:
    target = {"protocol": "http", "url": f"127.0.0.1:{RECEIVER}/records", "authType": "token", "secret": "t0p"}
    document = {"_id": "rehearsal", "active": True, "query": "{}", "payload": "record", "configuration": target}
    request = urllib.request.Request(
        "http://127.0.0.1:8380/api/v2/statementforwarding",
        json.dumps(document).encode(),
        {"Content-Type": "application/json"},
    )
    request.add_header("Authorization", "Basic " + base64.b64encode(":".join(client).encode()).decode())
    urllib.request.urlopen(request, timeout=20).close()  # noqa: S310


def put_activity(root: Root, name: str, user: str) -> None:
    ids = {"record_id": f"{user}-1", "user_id": user, "session_id": f"session-{user}", "activity_id": "quiz-1"}
    line = {**ids, "organisation": "school-1", "action": "START", "occurred_at": "2026-03-02T09:00:00Z"}
    (root.path / "in" / name).write_bytes(gzip.compress(json.dumps(line).encode() + b"\n"))


def compose(root: Root) -> None:
    """The services of compose.yaml that are ours."""
    services = yaml.safe_load((HERE / "compose/compose.yaml").read_text())["services"]
    registry = root.start(["session-forwarder", *services["registry"]["command"]], services["registry"]["environment"])
    until("the registry is healthy, by the image's health check", lambda: is_healthy(root), registry)
    metrics = urllib.request.urlopen("http://127.0.0.1:8380/metrics", timeout=20).read().decode()
    if "registry_store_up 1.0" not in metrics:
        sys.exit("no metrics of the registry")
    create_forwarder(new_client(root, "org/all/statementForwarding/edit"))

    job = services["job"]
    entry = [word.replace("${EVERY:-300}", "300") for word in job["entrypoint"]]
    command = [*entry, *job["command"], "--allow_network=127.0.0.0/8"]
    process = root.start(command, job["environment"])
    until("a run of the job has ended well", lambda: (root.path / "tmp/every").exists(), process)
    if len(Receiver.taken) != 1:
        sys.exit(f"the receiver has {len(Receiver.taken)} records instead of 1")
    test = job["healthcheck"]["test"][1].replace("$$", "$")
    root.ask(["/bin/sh", "-c", test])
    if "session_forwarder_run_exit_status 0" not in (text := (root.path / "metrics/job.prom").read_text()) and (
        'run_exit_status{name="job"} 0' not in text
    ):
        sys.exit("no metrics of the job")
    print("  ok: it was delivered, and the metrics say so", flush=True)
    print("  ok: SIGTERM ends the loop with status", ended(process), flush=True)
    print("  ok: SIGTERM ends the registry with status", ended(registry), flush=True)


def chart(root: Root, helm: str, client: tuple[str, str]) -> None:
    """The Deployment and the CronJob of the chart."""
    values = {
        "runs": {"main": {"schedule": "0 * * * *", "args": ["--input=/in/*.jsonl.gz", "--allow_network=127.0.0.0/8"]}}
    }
    rendered = subprocess.run(  # noqa: S603
        [helm, "template", "t", str(HERE / "chart"), "--kube-version", "1.31.0", "--values", "-"],
        input=json.dumps(values), check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    found = {each["kind"]: each for each in yaml.safe_load_all(rendered) if each}
    secrets = {("session-forwarder-client", "key"): client[0], ("session-forwarder-client", "secret"): client[1]}

    container = found["Deployment"]["spec"]["template"]["spec"]["containers"][0]
    registry = root.start(["session-forwarder", *container["args"]], variables_of(container, secrets))
    until(
        "the chart's registry is healthy over TLS", lambda: is_healthy(root, "https://127.0.0.1:8380/health"), registry
    )
    container = found["CronJob"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]
    before = len(Receiver.taken)
    said = root.ask([*container["command"], *container["args"]], variables_of(container, secrets))
    if len(Receiver.taken) <= before:
        sys.exit(f"the run of the CronJob delivered nothing: {said}")
    print(f"  ok: a run of the CronJob delivered {len(Receiver.taken) - before}", flush=True)
    print("  ok: SIGTERM ends the registry with status", ended(registry), flush=True)


def variables_of(container: dict[str, Any], secrets: Mapping[tuple[str, str], str]) -> dict[str, str]:
    variables = {}
    for each in container["env"]:
        reference = each.get("valueFrom", {}).get("secretKeyRef")
        variables[each["name"]] = secrets[reference["name"], reference["key"]] if reference else each["value"]
    return variables


def certificates(directory: Path) -> None:
    """A certificate for the chart's registry, and who signed it, as cert-manager leaves them in a secret."""
    quiet = {"check": True, "capture_output": True, "cwd": directory}
    ca = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=rehearsal -keyout ca.key -out ca.crt"
    subprocess.run(shlex.split(ca), **quiet)  # type: ignore[call-overload]  # noqa: S603
    ask = f"openssl req -newkey rsa:2048 -nodes -subj /CN={REGISTRY} -keyout tls.key -out tls.csr"
    subprocess.run(shlex.split(ask), **quiet)  # type: ignore[call-overload]  # noqa: S603
    (directory / "san").write_text(f"subjectAltName=DNS:{REGISTRY}\n")
    sign = "openssl x509 -req -in tls.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile san -out tls.crt"
    subprocess.run(shlex.split(sign), **quiet)  # type: ignore[call-overload]  # noqa: S603
    (directory / "tls.key").chmod(0o444)


def main(venv: Path) -> None:
    place = os.environ.get("REHEARSAL")
    if place is None:
        inside = ["unshare", "--mount", "--pid", "--net", "--fork", "--kill-child", sys.executable, __file__, str(venv)]
        with tempfile.TemporaryDirectory(prefix="rehearse-") as place:
            done = subprocess.run(inside, env={**os.environ, "REHEARSAL": place}, check=False)  # noqa: S603
        sys.exit(done.returncode)
    run("ip", "link", "set", "lo", "up")
    threading.Thread(
        target=http.server.ThreadingHTTPServer(("127.0.0.1", RECEIVER), Receiver).serve_forever, daemon=True
    ).start()
    root = Root(Path(place), venv)
    key = root.ask(["python", "-m", "registry", "key"])
    for place in ("run/secrets/registry_keys", "keys/keys"):
        (root.path / place).write_text(key)
    certificates(root.path / "tls")
    put_activity(root, "first.jsonl.gz", "ada")
    root.seal()
    if root.start(["touch", "/data/there", "/outside"]).wait() == 0 or not (root.path / "data/there").exists():
        sys.exit("the root is not what a container has: it can be written to, or /data cannot")
    print("  ok: nothing outside of the mounts can be written to", flush=True)
    compose(root)
    if helm := shutil.which(os.environ.get("HELM", "helm")):
        chart(root, helm, new_client(root, "org/all/statementForwarding/view", "statementForwarding/deliver"))
    else:
        print("helm is absent: the chart's commands were not run")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
