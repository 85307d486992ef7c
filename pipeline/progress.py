"""How far a run is, in words: what the live view, the log and `top` say of it."""

from collections import deque
from collections.abc import Mapping

from pipeline.cells import Column, clean, columns
from transforms.accounting.board import ForwarderName, Snapshot, Standing
from transforms.accounting.spans import span
from transforms.accounting.trouble import badness, in_trouble

_RATE_OVER = 20.0
"""Seconds over which the rate is taken that the time left is told by."""

_BAR = 20
"""Cells of the bar."""

_STANDS_STILL = 5.0
"""Seconds without a record that ended, after which no time left is told."""

NO_FORWARDERS: Mapping[str, ForwarderName] = {}


class Progress:
    """What snapshots of a board, one after the other, say of a run as a whole."""

    def __init__(self) -> None:
        # (unix time, what was done by then).
        self._done: deque[tuple[float, int]] = deque()

    def see(self, board: Snapshot, now: float) -> None:
        """Take in a snapshot. `now` is in unix seconds."""
        done = _done(board) if board.phase == "delivering" else board.job.size
        if self._done and done < self._done[-1][1]:
            self._done.clear()  # Reading is over, and what is counted is another thing.
        if not self._done or done != self._done[-1][1]:
            self._done.append((now, done))
        while len(self._done) > 2 and now - self._done[1][0] > _RATE_OVER:
            self._done.popleft()

    def _left(self, whole: int, now: float) -> float | None:
        """Seconds until `whole` is done, if it goes on as of late; None where nobody knows."""
        if len(self._done) < 2 or now - self._done[-1][0] > _STANDS_STILL:
            return None
        (since, before), (until, done) = self._done[0], self._done[-1]
        if until - since < 1.0 or done == before:
            return None
        return max(0, whole - done) * (until - since) / (done - before)

    def parts(self, board: Snapshot, now: float) -> list[str]:
        """What there is to say, the most important first."""
        job = board.job
        stopping = board.stopping and board.phase != "ending"
        parts = ["stopping: what is in flight ends" if stopping else _doing(board)]
        parts += self._how_far(board, now)
        if job.read or job.size:
            parts.append(f"read {job.read:,} ({_size(job.size)})")
        if job.rejects:
            parts.append(f"rejected {job.rejects:,}")
        if job.derived:
            parts.append(f"derived {job.derived:,}")
        if board.forwarders:
            parts.append(f"delivered {sum(standing.delivered for standing in board.forwarders.values()):,}")
            already = sum(standing.already_delivered for standing in board.forwarders.values())
            if already:
                parts.append(f"already delivered {already:,}")
            dead = sum(standing.dead_letters for standing in board.forwarders.values())
            if dead:
                parts.append(f"dead letters {dead:,}")
            deferred = sum(standing.deferred for standing in board.forwarders.values())
            if deferred:
                parts.append(f"deferred {deferred:,}")
        if job.lag is not None:
            parts.append(f"{span(job.lag)} behind")
        if board.run is not None and (elapsed := now - board.run.started) >= 1:
            if board.phase == "delivering" and (rate := _done(board) / elapsed) >= 1:
                parts.append(f"{rate:,.0f}/s")
            parts.append(span(elapsed))
        return parts

    def _how_far(self, board: Snapshot, now: float) -> list[str]:
        """Done of due, as a bar and in numbers, and the time left."""
        job, run = board.job, board.run
        if board.phase == "delivering" and board.forwarders:
            done, due = _done(board), sum(standing.due for standing in board.forwarders.values())
            whole = expected(board)
            about = "about " if whole > due else ""
            parts = [_bar(done, whole), f"{done:,} of {about}{whole:,}"]
        elif board.phase == "reading" and run is not None and run.total_bytes:
            # Ranges of a file are read a little beyond their ends.
            done, whole = min(job.size, run.total_bytes), run.total_bytes
            parts = [_bar(done, whole)]
        else:
            return []
        left = self._left(whole, now)
        if left is not None and done < whole:
            parts.append(f"{span(max(left, 1.0))} left")
        return parts


_PHASES = {"starting": "starting", "reading": "reading", "delivering": "delivering", "ending": "writing the report"}


def _doing(board: Snapshot) -> str:
    """What the run does. A dry run, and one without forwarders, derives and sends nothing."""
    return "deriving" if board.phase == "delivering" and not board.forwarders else _PHASES[board.phase]


def expected(board: Snapshot) -> int:
    """About how many records will be due in the whole run: as many more as there is input that is not folded yet."""
    due = sum(standing.due for standing in board.forwarders.values())
    job = board.job
    if not job.folded or job.folded >= job.accepted:
        return due
    # In two digits, as it is no more than an estimate.
    whole = due * job.accepted / job.folded
    step = int(10 ** max(0, len(str(int(whole))) - 2))
    return max(due, round(whole / step) * step)


def _done(board: Snapshot) -> int:
    return sum(standing.done for standing in board.forwarders.values())


def _bar(done: int, whole: int) -> str:
    share = min(done / whole, 1.0) if whole else 0.0
    filled = int(share * _BAR)
    return f"[{'#' * filled}{'.' * (_BAR - filled)}] {int(share * 100)} %"


def name_of(id_: str, names: Mapping[str, ForwarderName]) -> str:
    """What a forwarder is called: its description, or its id where it has none."""
    named = names.get(id_)
    return clean(named.description if named is not None and named.description.strip() else id_)


_TROUBLE = (
    Column("forwarder", least=16),
    Column("answers"),
    Column("wait", right=True),
    Column("next", rank=1),
    Column("try", rank=2),
    Column("dead", rank=3),
)


def trouble_lines(board: Snapshot, now: float, size: int, most: int) -> list[str]:
    """A line for each forwarder in trouble, the worst first; if there are too many, the last line counts the others.

    Args:
        board: at this moment.
        now: unix seconds.
        size: cells of a line.
        most: lines.
    """
    troubled = [(id_, standing) for id_, standing in board.forwarders.items() if in_trouble(standing)]
    if not troubled or most < 1:
        return []
    troubled.sort(key=lambda pair: badness(pair[1]), reverse=True)
    named = board.run.forwarders if board.run is not None else NO_FORWARDERS
    shown = troubled if len(troubled) <= most else troubled[: most - 1]
    rows = [
        (
            name_of(id_, named),
            clean(answers(standing)),
            f"{standing.waiting + standing.in_flight:,} wait",
            next_try(standing, now),
            attempt(standing),
            f"{standing.dead_letters:,} dead" if standing.dead else "",
        )
        for id_, standing in shown
    ]
    lines = columns(_TROUBLE, rows, size - 2, titled=False)
    lines = [f"! {line}" for line in lines]
    if len(shown) < len(troubled):
        lines.append(f"  and {len(troubled) - len(shown):,} more in trouble")
    return lines


def answers(standing: Standing) -> str:
    """What a forwarder in trouble answers."""
    if standing.unavailable:
        return f"{standing.last_answer}, given up" if standing.last_answer else "given up"
    if standing.failing is not None:
        return standing.failing.answer or "no answer"
    return standing.last_answer or max(standing.dead, key=standing.dead.__getitem__, default="")


def attempt(standing: Standing) -> str:
    """Which try the next one is, of how many."""
    failing = standing.failing
    return f"try {failing.attempt} of {failing.attempts}" if failing is not None and _waits(standing) else ""


def next_try(standing: Standing, now: float) -> str:
    """In how long a forwarder that fails is tried again."""
    failing = standing.failing
    if failing is None or not _waits(standing):
        return ""
    if failing.next_try is None or failing.next_try <= now:
        return "trying now"
    return f"next in {span(failing.next_try - now)}"


def _waits(standing: Standing) -> bool:
    return standing.waiting + standing.in_flight > 0


def _size(count: float) -> str:
    if count < 1000:
        return f"{count:.0f} B"
    for unit in ("KB", "MB"):
        count /= 1000
        if count < 1000:
            return f"{count:.1f} {unit}"
    return f"{count / 1000:.1f} GB"
