"""What the example of `examples/` leaves, in the form of `examples/expected/`.

`python -m tests.docs.example` runs it and writes that folder anew: for a change that is meant, to be read before it is
committed.
"""

import json
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import fastavro

from tests.docs.shell_blocks import Ran, copy_of_the_tree, run_blocks, shell_blocks
from tests.support.paths import ROOT

EXPECTED = ROOT / "examples" / "expected"
_TIMES_AND_RUN = ("first_attempt", "last_attempt", "settled_at", "run_id")
_OF_ONE_RUN = ("run_id", "started", "elapsed_seconds", "forwarder_documents")

Row = dict[str, Any]


def run_example(parent: Path) -> tuple[list[Ran], dict[str, str]]:
    """Run the blocks of its README in a copy of the project; what they printed, and `expected/` by file name."""
    tree = copy_of_the_tree(parent)
    ran = run_blocks(shell_blocks(ROOT / "examples" / "README.md"), tree, files=("examples/forwarders.json",))
    place = tree / "try" / "example"
    out = place / "out"
    report = json.loads((out / "report.json").read_text())
    for name in _OF_ONE_RUN:
        del report[name]
    # A file of rejects is named after its run.
    report["input"]["reject_files"] = [f"{Path(path).parent}/..." for path in report["input"]["reject_files"]]
    for forwarder in report["forwarders"]:
        del forwarder["p50_ms"], forwarder["p99_ms"]
    files = {
        "received.jsonl": _lines(_jsonl([place / "received.jsonl"]), _path_and_user),
        "receipts.jsonl": _lines(_avro(out / "receipts"), _forwarder_and_user, _TIMES_AND_RUN),
        "dead_letters.jsonl": _lines(_avro(out / "dead_letters"), _forwarder_and_user, _TIMES_AND_RUN),
        "rejects.jsonl": _lines(_avro(out / "rejects"), lambda row: row["position"]),
        "report.json": json.dumps(report, indent=2, ensure_ascii=False) + "\n",
    }
    for kind in ("event", "status", "score"):
        rows = _jsonl(sorted((out / "records").glob(f"{kind}-*.jsonl")))
        files[f"records/{kind}.jsonl"] = _lines(rows, lambda row: row["user_id"])
    return ran, files


def expected() -> dict[str, str]:
    """The folder as it stands, by file name."""
    paths = [path for path in EXPECTED.rglob("*") if path.is_file()]
    return {path.relative_to(EXPECTED).as_posix(): path.read_text(encoding="utf-8") for path in paths}


def _lines(rows: Iterable[Row], order: Callable[[Row], Any], without: Sequence[str] = ()) -> str:
    """JSON Lines by `order`. Rows that are alike in it stay as they came: a user's order is for the job to keep."""
    kept = [{name: value for name, value in row.items() if name not in without} for row in sorted(rows, key=order)]
    return "".join(json.dumps(row, ensure_ascii=False, default=_text) + "\n" for row in kept)


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _jsonl(paths: Iterable[Path]) -> list[Row]:
    return [json.loads(line) for path in paths for line in path.read_text(encoding="utf-8").splitlines()]


def _avro(directory: Path) -> list[Row]:
    rows: list[Row] = []
    for path in sorted(directory.glob("*.avro")):
        with path.open("rb") as file:
            rows += fastavro.reader(file)  # type: ignore[arg-type]
    return rows


def _path_and_user(row: Row) -> tuple[str, str]:
    body = row["body"]
    return row["path"], body["user_id"] if "user_id" in body else body["actor"]["account"]["name"]


def _forwarder_and_user(row: Row) -> tuple[str, str]:
    return row["forwarder_id"], row["user_id"]


def main() -> None:
    with tempfile.TemporaryDirectory() as parent:
        _, files = run_example(Path(parent))
    for name, content in files.items():
        path = EXPECTED / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
