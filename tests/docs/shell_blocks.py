"""The shell blocks of a page, run as a reader would run them: in order, in one shell, from the root of a copy."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.paths import ROOT
from tests.support.ports import free_port

_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NOT_COPIED = (".*", "__pycache__", "*.egg-info", "build", "dist", "out", "try", "target", "tests", "benchmarks")
_PORT = re.compile(r"(receiver\.py|--port) (\d+)")
_WITHIN = 240.0
"""Seconds for all blocks of a page."""


@dataclass(frozen=True)
class Block:
    """A shell block, and the text that the page prints under it: "" for none."""

    command: str
    shown: str


@dataclass(frozen=True)
class Ran:
    """A block that was run, and what it printed, errors among it."""

    block: Block
    output: str

    def missing(self) -> list[str]:
        """The lines that the page shows under the block and that the block did not print, in that order.

        A page may leave lines out, and of a line its ends or what stands for `...`. How long something took is not
        compared.
        """
        printed = [_without_times(line) for line in self.output.splitlines()]
        place = 0
        missing = []
        for line in self.block.shown.splitlines():
            parts = map(re.escape, _without_times(line).split("..."))
            wanted = re.compile(".*".join(parts))
            found = next((at for at in range(place, len(printed)) if wanted.search(printed[at])), None)
            if found is None:
                missing.append(line)
            else:
                place = found + 1
        return missing


def shell_blocks(page: Path) -> list[Block]:
    """The blocks of `page` that are fenced as `sh`, each with a `text` block that follows it at once.

    Raises ValueError for code that is marked another way: what is not known to be a command would not be run.
    """
    text = page.read_text(encoding="utf-8")
    blocks: list[Block] = []
    end = -1
    for fenced in _FENCED.finditer(text):
        language, body = fenced.groups()
        if language == "sh":
            blocks.append(Block(body, ""))
        elif language == "text" and blocks and fenced.start() == end + 1 and not blocks[-1].shown:
            blocks[-1] = Block(blocks[-1].command, body)
        else:
            raise ValueError(f"{page.name}: a block of {language or 'no language'} that belongs to no command: {body}")
        end = fenced.end()
    indented = re.search(r"^(?: {4}|\t)\S.*", _FENCED.sub("", text), re.MULTILINE)
    if indented:
        raise ValueError(f"{page.name}: code is fenced, so that it is run: {indented[0]}")
    return blocks


def run_blocks(blocks: Sequence[Block], tree: Path, files: Sequence[str] = ()) -> list[Ran]:
    """Run `blocks` one after the other in `tree`, as `copy_of_the_tree` made it.

    files: those of the tree that name the address of a receiver which the blocks start.

    Raises AssertionError, with what was printed, for the first block that ends with another status than 0.
    """
    places = tree.parent / "printed"
    places.mkdir()
    # As `session-forwarder` is where the project is installed.
    script = [
        "set -e",
        'session-forwarder() { python -m commands "$@"; }',
        "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT",
    ]
    moved = _ports(blocks)
    for file in files:
        (tree / file).write_text(_moved((tree / file).read_text(encoding="utf-8"), moved), encoding="utf-8")
    for number, block in enumerate(blocks):
        command = _PORT.sub(lambda found: f"{found[1]} {moved[found[2]]}", block.command)
        command = _moved(command, moved)
        script.append(f"{{\n{command}}} > {places}/{number} 2>&1")
        # Between two blocks a reader takes a moment: long enough for a receiver to listen.
        for port in (port for word, port in _PORT.findall(command) if word == "receiver.py"):
            script.append(f"until (exec 3<>/dev/tcp/127.0.0.1/{port}) 2>/dev/null; do sleep 0.05; done")
    environment = {"PATH": os.environ["PATH"], "HOME": str(tree.parent), "LANG": "C.UTF-8", "PYTHONPATH": str(tree)}
    shell = subprocess.Popen(  # noqa: S603 - the page is the project's own
        ["bash", "-c", "\n".join(script)],  # noqa: S607
        cwd=tree,
        env=environment,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        status = shell.wait(_WITHIN)
    except subprocess.TimeoutExpired:
        os.killpg(shell.pid, signal.SIGKILL)
        raise
    ran = [
        Ran(block, (places / str(number)).read_text(encoding="utf-8"))
        for number, block in enumerate(blocks)
        if (places / str(number)).exists()
    ]
    assert status == 0, f"ended with status {status}:\n{ran[-1].block.command}\n{ran[-1].output}"
    return ran


def _moved(text: str, ports: Mapping[str, int]) -> str:
    for printed, port in ports.items():
        text = text.replace(f"127.0.0.1:{printed}", f"127.0.0.1:{port}")
    return text


def _ports(blocks: Sequence[Block]) -> dict[str, int]:
    """A free port for each port that a receiver of the page listens at: on this machine it may be somebody else's."""
    printed: Collection[str] = {port for block in blocks for _, port in _PORT.findall(block.command)}
    return {port: free_port() for port in printed}


def copy_of_the_tree(parent: Path) -> Path:
    """The project as a fresh clone has it, with the environment that `run_local.sh` makes: this interpreter's own."""
    tree = parent / "session-forwarder"
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(*_NOT_COPIED))
    (tree / ".venv").symlink_to(sys.prefix)
    return tree


def _without_times(line: str) -> str:
    """A line with single spaces, and `#` for seconds and for the milliseconds that end a row of the report's table."""
    line = re.sub(r"\b\d+\.\d s\b", "# s", " ".join(line.split()))
    return re.sub(r"^(\S+ .*(?: [\d,]+){6}) (?:[\d,]+|-) (?:[\d,]+|-)$", r"\1 # #", line)
