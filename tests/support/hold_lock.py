"""Locks an output, says so, and waits to be killed; with `fork`, a child of it lives on.

python -m tests.support.hold_lock OUTPUT [fork|spawn]
"""

import os
import subprocess
import sys
import time

from pipeline.lock import OutputLock


def main(output: str, offspring: str = "") -> None:
    with OutputLock(output):
        pid = 0
        if offspring == "fork":
            if os.fork() == 0:
                os.write(1, f"{os.getpid()}\n".encode())  # said here: now it runs, and has let go of the lock
                time.sleep(60)
                os._exit(0)
            time.sleep(60)
        elif offspring == "spawn":
            pid = subprocess.Popen(["sleep", "60"], close_fds=False).pid  # noqa: S607
        os.write(1, f"{pid}\n".encode())
        time.sleep(60)


if __name__ == "__main__":
    main(*sys.argv[1:])
