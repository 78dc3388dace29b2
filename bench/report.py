"""Report of a benchmark: tables for the terminal and docs/performance.md, and the chart."""

import math
import os
import platform
import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

from bench.timing import Timing

MOST_GROWTH = 1.3
CHARTED = (
    "show one",
    "list of 25",
    "detail of 25",
    "list of 100",
    "detail of 100",
    "name, hit",
    "tenant with many: list",
)
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#000000")
WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 900, 520, 80, 40, 220, 60
MARKS = [one * 10**power for power in range(8) for one in (1, 2, 5)]


class Figure(NamedTuple):
    """Result beside the kinds; ``is_met`` is None without a target."""

    name: str
    found: str
    target: str = ""
    is_met: bool | None = None


class Report(NamedTuple):
    command: str
    timings: list[Timing]
    figures: list[Figure]
    sizes: dict[str, float]  # table or index → bytes an image


def text(report: Report) -> str:
    """Return all tables as Markdown that reads well in a terminal."""
    requests = ["## Requests", legend(), kinds_table(report.timings)]
    figures = ["## Other figures", figures_table(report.figures)]
    space = ["## Disk space", sizes_table(report.sizes)]
    return "\n\n".join([*requests, *figures, *space, verdict(report)])


def kinds_table(timings: list[Timing]) -> str:
    sizes = list(timings[0].pairs) if timings else []
    heads = [heading for size in sizes for heading in (f"µs at {size:,}", "of floor")]
    rows = [["kind", *heads, "target", "growth", "req/s (floor)", "p50 (floor) ms", "p99 (floor) ms", "met"]]
    for timing in timings:
        costs = [cell for size in sizes for cell in cost_cells(timing, size)]
        target = "" if timing.kind.target is None else f"≥ {timing.kind.target}"
        rows.append(
            [timing.kind.name, *costs, target, f"{timing.growth:.2f}", *speed_cells(timing), met(is_met(timing))]
        )
    return table(rows)


def cost_cells(timing, size):
    return f"{timing.middle(size, 'ours', 'cpu'):,.0f}", f"{timing.ratio(size):.2f}"


def speed_cells(timing):
    size = max(timing.pairs)
    rate = [timing.middle(size, side, "rate") for side in ("ours", "floor")]
    yield f"{rate[0]:,.0f} ({rate[1]:,.0f})"
    for figure in ("p50", "p99"):
        ours, floor = (timing.middle(size, side, figure) / 1000 for side in ("ours", "floor"))
        yield f"{ours:.1f} ({floor:.1f})"


def is_met(timing: Timing) -> bool | None:
    if timing.kind.target is None:
        return None
    return timing.worst >= timing.kind.target and timing.growth <= MOST_GROWTH


def met(is_so: bool | None) -> str:
    return "" if is_so is None else "met" if is_so else "NOT MET"


def legend() -> str:
    return (
        "- **µs**: CPU time of the server's processes per request.\n"
        "- **Floor**: a bare Flask route that returns a constant; for writes, one that commits with raw sqlite3.\n"
        "- **Of floor**: the floor's CPU time divided by ours, median of alternating rounds. 1.00 is as fast.\n"
        "- **Growth**: cost at the largest size over the smallest, each relative to its floor"
        f" (target ≤ {MOST_GROWTH}).\n"
        "- **req/s, p50, p99**: at the largest size."
    )


def figures_table(figures: list[Figure]) -> str:
    return table([["figure", "found", "target", "met"], *([*figure[:3], met(figure.is_met)] for figure in figures)])


def sizes_table(sizes: dict[str, float]) -> str:
    rows = [["table or index", "bytes an image"], *([name, f"{size:,.1f}"] for name, size in sizes.items())]
    return table([*rows, ["all", f"{sum(sizes.values()):,.1f}"]])


def table(rows: list[list[str]]) -> str:
    """Return an aligned Markdown table."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    first, *others = (" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    rule = " | ".join("-" * width for width in widths)
    return "\n".join(f"| {line} |" for line in (first, rule, *others))


def verdict(report: Report) -> str:
    judged = [is_met(timing) for timing in report.timings] + [figure.is_met for figure in report.figures]
    return f"{judged.count(True)} met, {judged.count(False)} not met."


def write(report: Report, folder: Path) -> None:
    """Write docs/performance.md and docs/performance.svg."""
    (folder / "performance.svg").write_text(chart(report.timings), encoding="utf-8")
    python, sqlite = platform.python_version(), sqlite3.sqlite_version
    machine = f"{os.cpu_count()} cores, Python {python}, SQLite {sqlite}, {datetime.now(UTC):%Y-%m-%d}"
    about = (
        f"`{report.command}` wrote this page ({machine}). Absolute times depend on the machine; compare the ratios.\n"
        "[decisions.md](decisions.md#lists) explains what keeps reads below their targets."
    )
    chart_link = "![CPU time per request by number of images](performance.svg)"
    page = "\n\n".join(["# Performance", about, chart_link, text(report)])
    (folder / "performance.md").write_text(page + "\n", encoding="utf-8")


def chart(timings: list[Timing]) -> str:
    """Return an SVG of CPU time against size, both logarithmic."""
    lines = [(t.kind.name, {size: t.middle(size, "ours", "cpu") for size in t.pairs}) for t in timings]
    floors = [t for t in timings if t.kind.name == "list of 25"]
    lines += [("the floor, list of 25", {s: t.middle(s, "floor", "cpu") for s in t.pairs}) for t in floors]
    place = scales(
        [size for _, points in lines for size in points], [c for _, points in lines for c in points.values()]
    )
    chosen = {name: colour for name, colour in zip(CHARTED, COLOURS, strict=True) if name in dict(lines)}
    parts = [*axes(place, lines), *(curve(place, points, "#ddd", 1) for name, points in lines if name not in chosen)]
    parts += [curve(place, dict(lines)[name], colour, 2.5) for name, colour in chosen.items()]
    chosen = chosen | {"the floor, list of 25": "#888", "all others": "#ddd"}
    parts += [curve(place, points, "#888", 2.5) for name, points in lines if name.startswith("the floor")]
    for row, (name, colour) in enumerate(chosen.items()):
        x, y = WIDTH - RIGHT + 20, TOP + 20 + row * 22
        parts.append(f'<path d="M{x} {y - 4}h24" stroke="{colour}" stroke-width="3"/>' + label(x + 32, y, name))
    size = f'width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}"'
    style = 'font-family="sans-serif" font-size="13" fill="none"'
    background = f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>'
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>', background, *parts, "</svg>\n"])


def scales(sizes, costs):
    """Return a function from (size, cost) to (x, y)."""
    left, right = math.log10(min(sizes)), math.log10(max(sizes))
    low, high = math.log10(max(mark for mark in MARKS if mark <= min(costs))), math.log10(max(costs)) + 0.05

    def place(size, cost):
        x = LEFT + (math.log10(size) - left) / (right - left or 1) * (WIDTH - LEFT - RIGHT)
        return x, HEIGHT - BOTTOM - (math.log10(cost) - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    return place


def axes(place, lines):
    costs = [cost for _, points in lines for cost in points.values()]
    first = max(mark for mark in MARKS if mark <= min(costs))
    for cost in (mark for mark in MARKS if first <= mark <= max(costs)):
        _, y = place(min(lines[0][1]), cost)
        yield f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#f0f0f0"/>' + label(
            LEFT - 8, y + 4, f"{cost:,}", "end"
        )
    for size in lines[0][1]:
        x, _ = place(size, first)
        yield label(x, HEIGHT - BOTTOM + 22, f"{size:,}", "middle")
    yield label(LEFT, TOP - 16, "µs of CPU time a request")
    yield label((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 14, "images", "middle")


def curve(place, points, colour, width):
    path = "L".join("{:.1f} {:.1f}".format(*place(size, cost)) for size, cost in points.items())
    return f'<path d="M{path}" stroke="{colour}" stroke-width="{width}"/>'


def label(x, y, words, anchor="start"):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="#333">{escape(words)}</text>'
