"""Dashboard: totals, charts and problems, each figure a link to its images."""

from datetime import UTC, datetime

from flask import request, url_for

from listing.aggregates import MONTHS_COUNTED
from ui import sessions
from ui.rendering import flavor, render
from ui.totals import find_problems, totals_of

BARS = 10
# Commands that list every image with a problem that no filter of the list expresses.
COMMANDS = {
    "unplaced": "./registry list --status active --json | jq -r '.[] | select(.location == null) | .id'",
    "lost": "./registry verify",
    "failed": "./registry list --long",
    "duplicates": "./registry list --json | jq -r '.[].checksum // empty' | sort | uniq -d",
}


def show_dashboard():
    context = request.context
    totals, age = totals_of(context)
    # Only a user of this machine may learn which files exist on it.
    problems = find_problems(
        context, looks_for_files=flavor() == "none" and not request.settings.auth.allow_open_network
    )
    charts = [
        chart("By format", "Format", "disk_format", totals.formats),
        chart("By status", "Status", "status", totals.statuses),
        chart("By owner", "Owner", "owner", totals.owners),
    ]
    return render(
        "dashboard.html",
        totals=totals,
        age=int(age),
        problems=problems,
        commands=COMMANDS,
        charts=charts,
        months=months_of(totals.months),
        form_token=sessions.form_token,
    )


def chart(title, label, parameter, table):
    """Return a bar chart of a table of (count, size).

    Returns: {title, label, rows: [{name, link, count, size, width}], more}; ``width`` is a percentage of the largest.
    """
    most = max((size for _, size in table.values()), default=0) or 1
    rows = [
        {
            "name": name,
            "link": name and url_for("ui.list_images", **{parameter: name}),
            "count": count,
            "size": int(size),
            "width": round(100 * size / most, 1),
        }
        for name, (count, size) in list(table.items())[:BARS]
    ]
    return {"title": title, "label": label, "rows": rows, "more": max(len(table) - BARS, 0)}


def months_of(table):
    """Return [{month, count, height}] of the last MONTHS_COUNTED months, oldest first.

    ``height`` is a percentage of the largest count.
    """
    year, month = (int(part) for part in datetime.now(UTC).strftime("%Y %m").split())
    names = []
    for _ in range(MONTHS_COUNTED):
        names.append(f"{year}-{month:02}")
        year, month = (year, month - 1) if month > 1 else (year - 1, 12)
    most = max((table.get(name, 0) for name in names), default=0) or 1
    return [
        {"month": name, "count": table.get(name, 0), "height": round(100 * table.get(name, 0) / most, 1)}
        for name in reversed(names)
    ]
