"""Rows of runs as a table, as promises kept or not, and as JSON."""

import json
import os
import platform
from collections.abc import Iterable, Iterator
from importlib import metadata
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks.measuring import Run
from benchmarks.suite import COMPARISONS, HANDFUL, Comparison, Row, Target

PROMISED_RATE = 75_000
PROMISED_MEMORY = 600
"""Bytes an activity above the bare job."""

_PACKAGES = ("apache-beam", "msgspec", "orjson", "boto3", "aiohttp", "requests", "bytewax", "quixstreams")


def table(rows: Iterable[Row]) -> str:
    """Medians, and ratios of wall clock and of processor time to the first of each group."""
    lines = [
        "| what | activities | program | runs | wall s | cpu s | activities/s | per cpu s | peak MB | x wall | x cpu |",
        "|---|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for _, group in groupby(rows, key=lambda row: (row.comparison, row.activities)):
        members = list(group)
        first = members[0]
        for row in members:
            lines.append(
                f"| {row.title} | {row.activities:,} | {row.label} | {len(row.runs)} | {row.wall:.2f} | {row.cpu:.2f} "
                f"| {row.activities / row.wall:,.0f} | {row.activities / row.cpu:,.0f} | {row.peak / 1e6:,.0f} "
                f"| {row.wall / first.wall:.2f} | {row.cpu / first.cpu:.2f} |"
            )
    return "\n".join(lines)


def promises(rows: list[Row]) -> list[dict[str, Any]]:
    """Each target that these rows can tell of: what was asked, by wall clock and by processor time."""
    results: list[dict[str, Any]] = []
    by_key = {(row.comparison, row.activities, row.label): row for row in rows}
    for comparison in COMPARISONS:
        for target in comparison.targets:
            for activities in dict.fromkeys(row.activities for row in rows if row.comparison == comparison.name):
                slower = by_key.get((comparison.name, activities, target.slower))
                faster = by_key.get((comparison.name, activities, target.faster))
                if slower is not None and faster is not None:
                    results.append(_ratio(comparison, target, activities, slower, faster))
    for row in rows:
        if row.comparison == "encode" and row.label == "job":
            results.append(
                {
                    "what": row.title,
                    "target": f"{PROMISED_RATE:,} activities/s",
                    "activities": row.activities,
                    "wall": row.activities / row.wall,
                    "cpu": row.activities / row.cpu,
                    "met": row.activities / row.wall >= PROMISED_RATE,
                }
            )
    return results + list(_memory(rows))


def _ratio(comparison: Comparison, target: Target, activities: int, slower: Row, faster: Row) -> dict[str, Any]:
    wall, cpu = slower.wall / faster.wall, slower.cpu / faster.cpu
    ratio = cpu if target.of == "cpu" else wall
    met = ratio >= target.at_least if target.at_least is not None else ratio <= (target.at_most or 0)
    return {
        "what": comparison.title,
        "target": target.text,
        "activities": activities,
        "wall": wall,
        "cpu": cpu,
        "met": met,
    }


def _memory(rows: list[Row]) -> Iterator[dict[str, Any]]:
    bare = next((row.peak for row in rows if row.comparison == "memory" and row.label == "a handful"), None)
    if bare is None:
        return
    for row in rows:
        is_job = row.comparison in ("end_to_end", "memory") and row.label not in ("floor", "floor-gc", "a handful")
        if is_job and row.activities > 100 * HANDFUL:
            size = (row.peak - bare) / row.activities
            yield {
                "what": f"{row.title}, {row.label}",
                "target": f"{PROMISED_MEMORY} bytes an activity above the bare job",
                "activities": row.activities,
                "bytes": size,
                "met": size <= PROMISED_MEMORY,
            }


def promises_text(results: Iterable[dict[str, Any]]) -> str:
    lines = ["| what | activities | target | wall | cpu | met |", "|---|---:|---|---:|---:|---|"]
    for promise in results:
        wall, cpu = (_number(promise.get(name)) for name in ("wall", "cpu"))
        if "bytes" in promise:
            wall = f"{promise['bytes']:,.0f} bytes"
        met = "yes" if promise["met"] else "no"
        lines.append(
            f"| {promise['what']} | {promise['activities']:,} | {promise['target']} | {wall} | {cpu} | {met} |"
        )
    return "\n".join(lines)


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value > 1000 else f"{value:.2f}"


def write_json(path: Path, rows: Iterable[Row], results: Iterable[dict[str, Any]], slopes: dict[str, Any]) -> None:
    document = {
        "machine": machine(),
        "rows": [
            {
                "comparison": row.comparison,
                "activities": row.activities,
                "label": row.label,
                "wall": row.wall,
                "cpu": row.cpu,
                "peak": row.peak,
                "runs": [run.as_json() for run in row.runs],
            }
            for row in rows
        ],
        "promises": list(results),
        "slopes": slopes,
    }
    path.write_text(json.dumps(document, indent=1) + "\n")


def read_json(path: Path) -> list[Row]:
    """The rows that `write_json` wrote."""
    titles = {comparison.name: comparison.title for comparison in COMPARISONS}
    return [
        Row(
            row["comparison"],
            titles.get(row["comparison"], row["comparison"]),
            row["activities"],
            row["label"],
            [Run(**run) for run in row["runs"]],
        )
        for row in json.loads(path.read_text())["rows"]
    ]


def machine() -> dict[str, Any]:
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed here"
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
        "versions": versions,
    }
