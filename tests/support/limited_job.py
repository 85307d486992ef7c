"""Runs jobs one after the other, each with a limit on the size of its files: a full disk that needs no disk.

python -m tests.support.limited_job BYTES... -- ARGUMENT...

`{}` in an argument stands for the limit. For each limit a line of JSON goes to standard output: its bytes, the exit
status of the job, and what it logged.
"""

import io
import json
import logging
import resource
import sys


def main(limits: list[int], arguments: list[str]) -> None:
    log = io.StringIO()
    logging.basicConfig(stream=log, level=logging.INFO)
    import pipeline.run  # noqa: F401 - so that what is imported is not written under a limit
    from pipeline.command import main

    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    out, sys.stdout = sys.stdout, io.StringIO()  # A pipe has no size. What the job prints is not asked for.
    for limit in limits:
        # Python ignores SIGXFSZ, so that a write beyond the limit fails with EFBIG, as a write to a full disk does.
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        status = main([argument.replace("{}", str(limit)) for argument in arguments])
        print(json.dumps({"limit": limit, "status": status, "log": log.getvalue()}), file=out, flush=True)
        log.seek(0)
        log.truncate()


if __name__ == "__main__":
    end = sys.argv.index("--")
    main([int(each) for each in sys.argv[1:end]], sys.argv[end + 1 :])
