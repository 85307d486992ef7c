"""All forwarders of a running job, live: what `session-forwarder top` shows in a second terminal."""

import argparse
import os
import re
import select
import shutil
import signal
import socket
import sys
import termios
import time
import tty
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TextIO

from pipeline.cells import Column, clean, columns, cut, flow
from pipeline.progress import NO_FORWARDERS, Progress, answers
from pipeline.terminal import can_draw
from transforms.accounting.board import Board, ForwarderName, Snapshot, Standing, is_alive
from transforms.accounting.holder import Holder, named_holder
from transforms.accounting.spans import span
from transforms.accounting.trouble import badness, in_trouble

_INTERVAL = 1.0
"""Seconds from one look at the board to the next."""

_LOOK = 0.2
"""Seconds from one look at the size of the terminal to the next."""

_QUIET = 15.0
"""Seconds after which the table says that no worker has told anything."""

DONE = 0
NO_JOB = 1

_KEYS = {
    "q": "quit",
    "\x03": "quit",
    "\x1b[A": "up",
    "k": "up",
    "\x1b[B": "down",
    "j": "down",
    "\x1b[5~": "page up",
    "b": "page up",
    "\x1b[6~": "page down",
    " ": "page down",
    "g": "top",
    "G": "end",
}
_KEY = re.compile(r"\x1b\[[0-9;]*[A-Za-z~]|.", re.DOTALL)


@dataclass
class _Rates:
    """Records that each forwarder ended in a second, between two looks."""

    before: Mapping[str, int] = field(default_factory=dict)
    at: float = 0.0
    rates: dict[str, float] = field(default_factory=dict)

    def see(self, board: Snapshot) -> None:
        """Take in a snapshot. Between two posts nothing changes."""
        if board.at <= self.at:
            return
        done = {id_: standing.done for id_, standing in board.forwarders.items()}
        if self.at:
            seconds = board.at - self.at
            self.rates = {id_: (count - self.before.get(id_, 0)) / seconds for id_, count in done.items()}
        self.before, self.at = done, board.at


_COLUMNS = (
    Column("forwarder", least=10),
    Column("description", rank=8, least=12),
    Column("state", least=16),
    Column("wait", right=True),
    Column("next try", rank=1, right=True),
    Column("dead", rank=2, right=True),
    Column("delivered", rank=3, right=True),
    Column("due", rank=4, right=True),
    Column("per s", rank=5, right=True),
    Column("oldest", rank=6, right=True),
    Column("calls", rank=7, right=True),
)


def top(output: str, *, once: bool = False, stream: TextIO | None = None) -> int:
    """Show all forwarders of the job that runs on an output, until it ends or `q` is pressed.

    Args:
        output: of the job, as its `--output`.
        once: print one table, however long, and return.
        stream: where it is drawn; None for standard output. If it is no terminal, one table is printed.

    Returns:
        The exit status: 0, or 1 where no job runs on the output.
    """
    stream = sys.stdout if stream is None else stream
    holder = named_holder(output)
    reason = _why_not(holder, output)
    if holder is None or holder.board is None or reason:
        print(reason or f"no job runs on {output}", file=stream)
        return NO_JOB
    board = Board(holder.board)
    if once or not can_draw(stream):
        progress, now = Progress(), time.time()
        snapshot = board.read()
        progress.see(snapshot, now)
        size = os.get_terminal_size(stream.fileno()).columns if stream.isatty() else shutil.get_terminal_size().columns
        if not stream.isatty() and "COLUMNS" not in os.environ:
            size = 160
        head, rows = _table(snapshot, progress, _Rates(), now, size)
        print("\n".join([*head, *rows]), file=stream)
        return DONE
    ended = False
    with _full_screen(stream):
        ended = _watch(board, holder, stream)
    if ended:
        print(f"the job has ended: {output}/report.json says how", file=stream)
    return DONE


def _why_not(holder: Holder | None, output: str) -> str | None:
    """Why the board of a job cannot be shown here; None if it can."""
    if holder is None:
        return f"no job runs on {output}"
    if holder.host != socket.gethostname():
        return f"the job on {output} is {holder}: look there"
    if holder.board is None or not os.path.isdir(holder.board) or not is_alive(holder.pid):  # noqa: PTH112
        return f"no job runs on {output}; the last one, {holder}, did not end by itself"
    return None


def _watch(board: Board, holder: Holder, stream: TextIO) -> bool:
    """Draw until the job ends, which is True, or the user leaves."""
    progress, rates = Progress(), _Rates()
    first, drawn, looked = 0, (0, 0), 0.0
    snapshot = Snapshot()
    while True:
        now, size = time.monotonic(), _size(stream)
        keys = [] if not looked else _keys(_LOOK)
        if "quit" in keys:
            return False
        if now - looked >= _INTERVAL:
            looked, latest = now, board.read()
            if not os.path.isdir(board.directory) or not is_alive(holder.pid):  # noqa: PTH112
                return True
            snapshot = latest
            progress.see(snapshot, time.time())
            rates.see(snapshot)
        elif not keys and size == drawn:
            continue
        drawn = size
        head, rows = _table(snapshot, progress, rates, time.time(), size[0] - 1)
        first = _draw(stream, head, rows, size, first, keys)


def _draw(
    stream: TextIO, head: Sequence[str], rows: Sequence[str], size: tuple[int, int], first: int, keys: Sequence[str]
) -> int:
    """Draw what fits the window. Returns the first row that is shown, after what keys asked for."""
    across, down = size
    room = max(1, down - len(head) - 1)
    last = max(0, len(rows) - room)
    moves = {"up": -1, "down": 1, "page up": -room, "page down": room, "top": -len(rows), "end": len(rows)}
    first = min(max(first + sum(moves.get(key, 0) for key in keys), 0), last)
    shown = rows[first : first + room]
    foot = f"{len(rows):,} forwarders  q leaves"
    if last:
        foot = f"{first + 1:,} to {first + len(shown):,} of {foot}, arrows and space move"
    whole = [*head, *shown, *[""] * (room - len(shown)), cut(foot, across - 1)]
    drawn = [f"{_coloured(line, number - len(head))}\x1b[K" for number, line in enumerate(whole[:down])]
    stream.write("\x1b[H" + "\r\n".join(drawn) + "\x1b[J")
    stream.flush()
    return first


def _table(snapshot: Snapshot, progress: Progress, rates: _Rates, now: float, size: int) -> tuple[list[str], list[str]]:
    """The lines of the head, the titles last, and a line for each forwarder, no wider than `size` cells."""
    names = snapshot.run.forwarders if snapshot.run is not None else NO_FORWARDERS
    head = flow(progress.parts(snapshot, now), size)
    if snapshot.run is not None:
        head.insert(0, cut(clean(f"run {snapshot.run.run_id} on {snapshot.run.output or 'no output'}"), size))
    if snapshot.run is not None and not snapshot.workers and now - snapshot.run.started > _QUIET:
        head += flow(["its workers are not on this machine, or have not begun", "--metrics_port shows those"], size)
    elif snapshot.at and now - snapshot.at > _QUIET:
        head.append(cut(f"no worker has told anything for {span(now - snapshot.at)}", size))
    rows = [_row(id_, standing, names, rates, now) for id_, standing in _in_order(snapshot, names)]
    titles, *lines = columns(_COLUMNS, rows, size)
    return [*head, "", titles], lines


def _in_order(snapshot: Snapshot, names: Mapping[str, ForwarderName]) -> list[tuple[str, Standing]]:
    """All forwarders: those in trouble first, the worst of them first of all, then in the order of the documents."""
    known = snapshot.forwarders
    every = [*names, *(id_ for id_ in known if id_ not in names)]
    troubled = [id_ for id_ in known if in_trouble(known[id_])]
    troubled.sort(key=lambda id_: badness(known[id_]), reverse=True)
    first = set(troubled)
    order = [*troubled, *(id_ for id_ in every if id_ not in first)]
    return [(id_, known.get(id_) or Standing()) for id_ in order]


def _row(
    id_: str, standing: Standing, names: Mapping[str, ForwarderName], rates: _Rates, now: float
) -> tuple[str, ...]:
    waiting = standing.waiting + standing.in_flight
    failing = standing.failing
    next_try = ""
    if failing is not None and waiting:
        left = "now" if failing.next_try is None or failing.next_try <= now else span(failing.next_try - now)
        next_try = f"{failing.attempt}/{failing.attempts} {left}"
    named = names.get(id_)
    rate = rates.rates.get(id_, 0.0)
    return (
        ("! " if in_trouble(standing) else "  ") + clean(id_),
        clean(named.description) if named is not None else "",
        clean(_state(standing, now)),
        f"{waiting:,}" if waiting else "",
        next_try,
        f"{standing.dead_letters:,}" if standing.dead else "",
        f"{standing.delivered + standing.already_delivered:,}" if standing.due else "",
        f"{standing.due:,}" if standing.due else "",
        f"{rate:,.0f}" if rate >= 0.5 else "",
        span(now - standing.oldest_unsent) if standing.oldest_unsent is not None and waiting else "",
        f"{standing.calls:,}" if standing.calls else "",
    )


def _state(standing: Standing, now: float) -> str:
    if in_trouble(standing):
        failing = standing.failing
        since = f" for {span(now - failing.since)}" if failing is not None and not standing.unavailable else ""
        return answers(standing) + since
    if not standing.due:
        return ""
    return "sending" if standing.waiting + standing.in_flight else "all sent"


def _coloured(line: str, row: int) -> str:
    """A line in its colour. `row` is 0 for the first forwarder, so -1 for the titles."""
    if os.environ.get("NO_COLOR"):
        return line
    if row == -1:
        return f"\x1b[7m{line}\x1b[0m"
    return f"\x1b[33m{line}\x1b[0m" if row >= 0 and line.startswith("! ") else line


def _size(stream: TextIO) -> tuple[int, int]:
    across, down = os.get_terminal_size(stream.fileno())
    return (across, down) if across > 0 and down > 0 else (80, 24)


def _keys(seconds: float) -> list[str]:
    """What was asked for by keys within so many seconds."""
    if not sys.stdin.isatty():
        time.sleep(seconds)
        return []
    if not select.select([sys.stdin], [], [], seconds)[0]:
        return []
    pressed = os.read(sys.stdin.fileno(), 1024)
    if not pressed:
        return ["quit"]
    return [_KEYS[key] for key in _KEY.findall(pressed.decode(errors="replace")) if key in _KEYS]


@contextmanager
def _full_screen(stream: TextIO) -> Iterator[None]:
    """Have the terminal's other screen, without a cursor, and keys as they are pressed, until the end."""
    before = termios.tcgetattr(sys.stdin) if sys.stdin.isatty() else None
    on_terminate = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if before is not None:
            tty.setcbreak(sys.stdin)
        stream.write("\x1b[?1049h\x1b[?25l")
        stream.flush()
        yield
    except KeyboardInterrupt:
        pass
    finally:
        if before is not None:
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
        stream.write("\x1b[?25h\x1b[?1049l")
        stream.flush()
        signal.signal(signal.SIGTERM, on_terminate)


def main(argv: Sequence[str]) -> int:
    """`python -m pipeline.top`. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.top", description="All forwarders of a running job, live")
    parser.add_argument("--output", required=True, metavar="DIR", help="of the job")
    parser.add_argument("--once", action="store_true", help="print one table")
    arguments = parser.parse_args(argv)
    return top(arguments.output, once=arguments.once)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
