"""What many HTTP forwarders cost, each with a host name of its own: threads, descriptors, memory and processor time.

    python -m benchmarks.many_forwarders --forwarders 1000 --descriptors 1024
    python -m benchmarks.many_forwarders --forwarders 10000 --active 10 --users 50

The job runs in a process of its own, with a resolver that finds every name on this machine after 5 ms, and one receiver
that answers at once. Names that are not active match nothing.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.delivery import ROOT, receiver
from tests.support.activity import sessions
from tests.support.workshop import Workshop

_JOB = """
import os, resource, socket, sys, threading, time
descriptors = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
look_up, most = socket.getaddrinfo, {"task": 0, "fd": 0}

def getaddrinfo(host, *more, **options):
    if host.endswith(".example"):
        time.sleep(0.005)
        host = "127.0.0.1"
    return look_up(host, *more, **options)

def watch():
    while True:
        for name in most:
            most[name] = max(most[name], len(os.listdir(f"/proc/self/{name}")))
        time.sleep(0.02)

socket.getaddrinfo = getaddrinfo
threading.Thread(target=watch, daemon=True).start()
from pipeline.command import main
status = main(sys.argv[2:])
used = resource.getrusage(resource.RUSAGE_SELF)
print(f"most: {most['task']} threads, {most['fd']} descriptors, {used.ru_maxrss // 1024} MB; "
      f"{used.ru_utime + used.ru_stime:.1f} s of processor time", file=sys.stderr)
sys.exit(status)
"""


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.many_forwarders", description=__doc__)
    parser.add_argument("--forwarders", type=int, default=1000)
    parser.add_argument("--active", type=int, help="that get every record; the others get none (default: all)")
    parser.add_argument("--users", type=int, default=5, help="with four records each")
    parser.add_argument("--descriptors", type=int, default=1024, help="the limit, soft and hard")
    options = parser.parse_args(arguments)
    active = options.forwarders if options.active is None else options.active
    with tempfile.TemporaryDirectory(prefix="forwarders-") as path, receiver("http") as served:
        workshop = Workshop(Path(path))
        workshop.write_activity(sessions(options.users))
        workshop.write_forwarders(
            *(
                {
                    "_id": f"f{number}",
                    "active": True,
                    "query": "{}"
                    if number < active
                    else json.dumps({"statement.actor.account.name": f"none-{number}"}),
                    "payload": "record",
                    "configuration": {"protocol": "http", "url": f"h{number}.example:{served.address}/{number}"},
                }
                for number in range(options.forwarders)
            )
        )
        job = workshop.arguments("--input", str(workshop.path / "in" / "*"))
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-c", _JOB, str(options.descriptors), *job],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        told = re.search(r"^most: .*$", done.stderr, re.MULTILINE)
        print(told[0] if told else done.stderr)
        accounts = workshop.report()["forwarders"]
        print(
            *(f"{name} {sum(account[name] for account in accounts):,}" for name in ("delivered", "attempts")), sep=", "
        )


if __name__ == "__main__":
    main(sys.argv[1:])
