"""How cost grows: slopes fitted on logarithmic scales, and a plot of them."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.suite import Row

Points = list[tuple[float, float]]


def slope(points: Points) -> float:
    """Of the least-squares line through the logarithms: 1 is proportional."""
    xs, ys = [math.log(x) for x, _ in points], [math.log(y) for _, y in points]
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    return sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / sum((x - mean_x) ** 2 for x in xs)


def series(rows: Sequence[Row]) -> dict[str, Points]:
    """(activities, seconds or bytes) of the job and the floor, above what they take for a handful where that is known;
    and (forwarders, microseconds a record)."""
    points_of: dict[str, Points] = {}
    for row in rows:
        if row.comparison in ("encode", "end_to_end") and row.label in ("job", "floor"):
            name = f"{row.label}, {row.title}"
            points_of.setdefault(f"seconds: {name}", []).append((row.activities, row.cpu))
            points_of.setdefault(f"bytes: {name}", []).append((row.activities, row.peak))
        if row.comparison == "match":
            count = int(row.label.split()[0])
            microseconds = row.cpu / row.runs[0].delivered["count"] * 1e6
            points_of.setdefault("microseconds: match a record", []).append((count, microseconds))
    return {name: sorted(points) for name, points in points_of.items() if len(points) > 1}


def slopes(rows: Sequence[Row]) -> dict[str, Any]:
    """By series: over all points, and between the last two, where what is fixed weighs least."""
    return {
        name: {"all": slope(points), "last": slope(points[-2:]), "points": points}
        for name, points in series(rows).items()
    }


def hits(rows: Sequence[Row]) -> dict[int, float]:
    """Matches a record, by number of forwarders."""
    matches = {}
    for row in rows:
        if row.comparison == "match":
            delivered = row.runs[0].delivered
            matches[int(row.label.split()[0])] = delivered["hits"] / delivered["count"]
    return matches


def plot(rows: Sequence[Row], path: Path) -> None:
    """Three panels: time, memory, match cost. Needs matplotlib."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    points_of = series(rows)
    figure, panels = pyplot.subplots(1, 3, figsize=(13, 4))
    titles = {
        "seconds": ("processor time", "activities", "seconds"),
        "bytes": ("peak memory", "activities", "MB"),
        "microseconds": ("match", "forwarders", "microseconds a record"),
    }
    for panel, (kind, (title, x_label, y_label)) in zip(panels, titles.items(), strict=True):
        for name, points in points_of.items():
            if name.startswith(kind + ":"):
                scale = 1e-6 if kind == "bytes" else 1.0
                ys = [y * scale for _, y in points]
                label = f"{name.partition(': ')[2]}: slope {slope(points):.2f}, last {slope(points[-2:]):.2f}"
                panel.plot([x for x, _ in points], ys, marker="o", markersize=3, linewidth=1, label=label)
        panel.set(xscale="log", yscale="log", title=title, xlabel=x_label, ylabel=y_label)
        panel.grid(visible=True, which="major", linewidth=0.3)
        if panel.lines:
            panel.legend(fontsize=6)
    figure.tight_layout()
    figure.savefig(path, dpi=80)
    pyplot.close(figure)
