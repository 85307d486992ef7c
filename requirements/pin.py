"""Write the pinned set anew from setup.py and pyproject.toml: `make pins`, or `python requirements/pin.py`.

All files beside this one come out of one resolution, so that no two of them can disagree on a version: for every
Python from 3.11 on and every platform, with the hashes of all files that the index has of a version. A version that is
pinned stays as it is, unless it no longer fits or uv is told otherwise:

    python requirements/pin.py --upgrade-package aiohttp
    python requirements/pin.py --upgrade

Arguments go to `uv pip compile`. Needs uv (`pip install uv`).
"""

import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
OLDEST_PYTHON = "3.11"


class PinnedFile(NamedTuple):
    """One file of the set: what an extra of setup.py (None: the job itself) needs beyond the files it includes."""

    name: str
    purpose: str
    extra: str | None
    includes: tuple[str, ...] = ()


# The extra `aws` needs nothing that the job does not, and `bench-peers` has an environment of its own.
FILES = (
    PinnedFile("job.txt", "the job itself, s3:// included", None),
    PinnedFile("local.txt", "run_local.sh and run_flink.sh", "local", ("job.txt",)),
    PinnedFile("registry.txt", "the service that holds forwarders", "registry", ("job.txt",)),
    PinnedFile("gcp.txt", "gs:// and Dataflow", "gcp", ("job.txt",)),
    PinnedFile("otel.txt", "metrics and traces for OpenTelemetry", "otel", ("job.txt",)),
    PinnedFile("test.txt", "run_tests.sh", "test", ("gcp.txt", "local.txt", "registry.txt", "otel.txt")),
    PinnedFile("bench.txt", "python -m benchmarks, beside test.txt", "bench", ("job.txt",)),
)
BUILD = PinnedFile("build.txt", "what builds this project and source packages; install it first", None)

_PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==")


def main(arguments: Sequence[str]) -> None:
    """Write the files. Ends with uv's own message and status when uv cannot resolve."""
    with tempfile.TemporaryDirectory() as scratch:
        everything = Path(scratch) / "everything.txt"
        # uv keeps to the versions that its output file has already.
        everything.write_text("".join(_pins(*sorted(HERE.glob("*.txt"))).values()))
        every_extra = [extra for file in FILES if file.extra for extra in ("--extra", file.extra)]
        build_only = Path(scratch) / "build.in"
        build_only.write_text("\n".join(_build_requirements()))
        _compile(["setup.py", str(build_only), *every_extra, "--generate-hashes", *arguments], everything)
        pins = _pins(everything)
        needs = {file.name: _needs(_inputs(file), everything, scratch) for file in FILES}
        _write(BUILD, pins, _needs([str(build_only)], everything, scratch))
    for file in FILES:
        included = set().union(*(needs[name] for name in _all_includes(file)))
        _write(file, pins, needs[file.name] - included)


def _build_requirements() -> list[str]:
    requirements: list[str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    return requirements


def _inputs(file: PinnedFile) -> list[str]:
    return ["setup.py", *(["--extra", file.extra] if file.extra else [])]


def _all_includes(file: PinnedFile) -> set[str]:
    """The names of the files that `file` includes, and of those that they include."""
    included = [other for other in FILES if other.name in file.includes]
    return {other.name for other in included}.union(*(_all_includes(other) for other in included))


def _needs(inputs: Sequence[str], everything: Path, scratch: str) -> set[str]:
    """The names of the packages that `inputs` come down to, in the versions of `everything`."""
    output = Path(scratch) / "some.txt"
    output.unlink(missing_ok=True)
    _compile([*inputs, "--constraint", str(everything)], output)
    return set(_pins(output))


def _compile(arguments: Sequence[str], output: Path) -> None:
    # Nothing of the machine that runs this stays in the output: no index, no directory of wheels, no command line.
    quiet = ["--quiet", "--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links"]
    python = ["--universal", "--python-version", OLDEST_PYTHON]
    command = ["uv", "pip", "compile", *quiet, *python, *arguments, "--output-file", str(output)]
    try:
        subprocess.run(command, cwd=ROOT, check=True)  # noqa: S603 - our own arguments and the caller's
    except FileNotFoundError:
        sys.exit("pin.py: uv is needed: pip install uv")
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)


def _pins(*paths: Path) -> dict[str, str]:
    """The pins of files by package. The text of a package that differs between Pythons holds several versions."""
    pins: dict[str, str] = {}
    for path in paths:
        name, own = None, dict[str, str]()
        for line in path.read_text().splitlines(keepends=True):
            if match := _PIN.match(line):
                name = match["name"]
            if name is not None:
                own[name] = own.get(name, "") + line
        pins |= own
    return pins


def _write(file: PinnedFile, pins: dict[str, str], names: Iterable[str]) -> None:
    head = f"# For {file.purpose}. Made by requirements/pin.py: do not edit.\n"
    includes = "".join(f"-r {name}\n" for name in file.includes)
    (HERE / file.name).write_text(head + includes + "".join(pins[name] for name in sorted(names)))


if __name__ == "__main__":
    main(sys.argv[1:])
