"""Recordings of 2,000 exchanges with a real server, and their comparison: a refactoring changes no byte of an answer.

    python tests/support/replay.py record BEFORE.jsonl --root ../old-checkout
    python tests/support/replay.py record AFTER.jsonl
    python tests/support/replay.py compare BEFORE.jsonl AFTER.jsonl [--wording]

Values that are random by nature become placeholders, so that two recordings of one code base are identical.
The examples of the OpenAPI document and of docs/tour.md are sent by test_openapi.py and test_docs.py.
"""

import argparse
import json
import re
import sys
from collections import Counter
from itertools import zip_longest
from pathlib import Path

from replay_recorder import record

ROOT = Path(__file__).parent.parent.parent
PROSE = ("description", "summary")
ROUTES = (
    *("/", "/images", "/images/detail", "/images/{image_id}", "/images/{image_id}/members"),
    *("/images/{image_id}/members/{member_id}", "/images/{image_id}/history", "/images/{image_id}/undelete"),
    *("/shared-images/{member_id}", "/versions", "/openapi.json", "/docs", "/docs/rapidoc.js"),
    *("/healthcheck", "/metrics"),
)
PATTERNS = {route.replace("{image_id}", "[^/]+").replace("{member_id}", ".+"): route for route in ROUTES}


def compare(before, after, is_wording_free):
    """Print how two recordings differ, and what they cover; return how many exchanges differ."""
    pairs = list(zip_longest(*(map(json.loads, path.open(encoding="ascii")) for path in (before, after)), fillvalue={}))
    count = 0
    for number, pair in enumerate(pairs, 1):
        old, new = map(without_wording, pair) if is_wording_free else pair
        names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
        count += bool(names)
        if names:
            shown = pair[0] or pair[1]
            print(f"{number}: {shown['flavor']}, {shown['caller']}: {shown['method']} {shown['target'][:200]}")
        for name in names:
            print(f"    {name} before: {str(old.get(name))[:2000]!r}\n    {name} after:  {str(new.get(name))[:2000]!r}")
    print_coverage(old for old, _ in pairs if old)
    print(f"{len(pairs)} exchanges compared, {count} differ.")
    return count


def without_wording(exchange):
    """Return an exchange with the texts of a refusal, or of the OpenAPI document's prose, left out."""
    headers = {name.lower(): value for name, value in exchange.get("answer", ())}
    is_problem = headers.get("content-type") == "application/problem+json"
    if not (is_problem or exchange.get("target", "").startswith("/openapi.json")):
        return exchange
    settled = [(name, "<length>" if name.lower() == "content-length" else value) for name, value in exchange["answer"]]
    content = exchange["content"]
    if content.startswith("{"):
        content = json.dumps(json.loads(content, object_pairs_hook=without_detail if is_problem else without_prose))
    return exchange | {"answer": settled, "content": content}


def without_detail(pairs):
    """Return a JSON object, of whose errors only the fields' names are left."""
    return {
        name: sorted(value) if name == "errors" else "<text>" if name == "detail" else value for name, value in pairs
    }


def without_prose(pairs):
    """Return a JSON object without what explains it."""
    return {
        name: value for name, value in pairs if name not in ("description", "summary") or not isinstance(value, str)
    }


def print_coverage(exchanges):
    """Print how many exchanges there are of each method, route and status."""
    counts = Counter((route_of(each["target"]), each["method"], each["status"]) for each in exchanges)
    for (route, method), statuses in group_statuses(counts).items():
        print(f"{method:9} {route:40} {', '.join(statuses)}")


def group_statuses(counts):
    """Return {(route, method): ["200 × 3", ...]}."""
    grouped = {}
    for (route, method, status), count in sorted(counts.items()):
        grouped.setdefault((route, method), []).append(f"{status} × {count}")
    return grouped


def route_of(target):
    """Return the route of a target, as the OpenAPI document writes it."""
    path = target.partition("?")[0]
    found = (route for pattern, route in PATTERNS.items() if re.fullmatch(f"{pattern}/?", path or "/", re.DOTALL))
    return next(found, "another path")


def main():
    """Run a command, and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    recorder = commands.add_parser("record", help="Send the requests, and write what was answered.")
    recorder.add_argument("file", type=Path)
    recorder.add_argument("--root", type=Path, default=ROOT, help="The checkout that is served; default: this one.")
    comparer = commands.add_parser("compare", help="Print every difference, and exit with 1 if there is one.")
    comparer.add_argument("before", type=Path)
    comparer.add_argument("after", type=Path)
    comparer.add_argument("--wording", action="store_true", help="Leave out texts of errors and of /openapi.json.")
    chosen = parser.parse_args()
    if chosen.command == "record":
        record(chosen.file, chosen.root.resolve())
        return 0
    return int(compare(chosen.before, chosen.after, chosen.wording) > 0)


if __name__ == "__main__":
    sys.exit(main())
