"""Start of the command line: CPU time of commands, over that of importing its libraries."""

import os
import sys
from statistics import median

from bench.report import Figure
from bench.scans import cost_of
from bench.servers import ROOT

LIBRARIES = [sys.executable, "-c", "import flask, peewee, marshmallow"]
# Arguments of ./registry → the most times the libraries' CPU time.
TARGETS = {("--version",): 1.3, ("--help",): 1.3, ("list", "--limit", "25"): 2.0}


def measure(database, rounds):
    """Yield a Figure for each command, the median of alternating rounds."""
    variables = {"REGISTRY_DATABASE_CONNECTION": f"sqlite:///{database}"}
    pairs = {arguments: [] for arguments in TARGETS}
    for _ in range(rounds):
        for arguments, found in pairs.items():
            ours = cost_of([ROOT / "registry", *arguments], env={**os.environ, **variables})
            found.append((ours.cpu, cost_of(LIBRARIES).cpu))
    for arguments, found in pairs.items():
        ratio = median(ours / libraries for ours, libraries in found)
        shown = f"{ratio:.2f} × ({median(ours for ours, _ in found):.2f} s)"
        target = TARGETS[arguments]
        name = f"registry {' '.join(arguments)}: CPU ÷ import of flask, peewee and marshmallow"
        yield Figure(name, shown, f"≤ {target:g} ×", ratio <= target)
