"""Command ``python -m bench``: under two minutes, or with --full at up to a million images."""

import argparse
import contextlib
import re
import shlex
import signal
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from bench import answers, catalogue, commands, mixture, report, scans, storage, timing, watching, writes, wrk
from bench.kinds import SORT_KEYS, Kinds
from bench.report import Figure
from bench.servers import FLOOR, ROOT, Server, serve

QUICK_SIZES, FULL_SIZES = [1_000, 10_000], [1_000, 10_000, 100_000, 1_000_000]
# Limit of a run; a longer one hangs.
QUICK_LIMIT, FULL_LIMIT = 10 * 60, 6 * 3600
MOST_CHANGED = 1000
FLAVORS = ("none", "trusted-auth")


def parse_options(arguments):
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--full", action="store_true", help="1,000 to 1,000,000 images, each kind by itself")
    parser.add_argument("--write", action="store_true", help="also write docs/performance.md and .svg")
    parser.add_argument("--only", default="", metavar="REGEX", help="only kinds whose name matches")
    parser.add_argument("--kinds-only", action="store_true", help="no writes, walks, starts, sizes")
    moment = "images of one moment with few names, as a bulk import makes them"
    parser.add_argument("--one-moment", action="store_true", help=moment)
    parser.add_argument("--folder", type=Path, help="keep catalogues and databases there, and use them again")
    parser.add_argument("--sizes", type=lambda text: [int(part) for part in text.split(",")], help="1000,10000")
    parser.add_argument("--rounds", type=int, help="how often each is timed")
    parser.add_argument("--seconds", type=float, help="how long each is timed, in a round")
    options = parser.parse_args(arguments)
    if options.folder:
        options.folder.mkdir(parents=True, exist_ok=True)
    options.sizes = sorted(options.sizes or (FULL_SIZES if options.full else QUICK_SIZES))
    options.rounds = options.rounds or (5 if options.full else 2)
    options.seconds = options.seconds or (0.5 if options.full else 0.1)
    return options


def main(arguments=None) -> int:
    options = parse_options(arguments)
    wrk.require_wrk()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit("ended by a signal"))
    signal.signal(signal.SIGALRM, lambda *_: sys.exit("ended: it took too long"))
    signal.alarm(FULL_LIMIT if options.full else QUICK_LIMIT)
    start = time.monotonic()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", dir=options.folder)))
        try:
            found = Run(options, folder, stack).report()
        except answers.WrongAnswer as error:
            sys.exit(f"A wrong answer, so nothing was timed. {error}")
    say(f"{report.text(found)}\nTook {time.monotonic() - start:.0f} s.\n")
    if options.write:
        report.write(found, ROOT / "docs")
    return 0


class Run:
    """One run of the benchmark, with a folder of its own; ``stack`` holds what it must stop."""

    def __init__(self, options, folder, stack):
        self.options, self.folder, self.stack = options, folder, stack
        self.kept = options.folder or folder
        self.label = "one-moment-" if options.one_moment else ""
        self.imports = {}

    def report(self) -> report.Report:
        stages = [self.open_stage(size) for size in self.options.sizes]
        for server in [server for stage in stages for server in stage.servers.values()]:
            server.wait()
        progress("checking the answers")
        rows = timing.prepare(stages, self.folder, self.options.full, self.options.only)
        floor = self.stack.enter_context(timing.start_floor(rows, self.folder)).wait()
        timings = timing.measure(rows, floor, self.options.rounds, self.options.seconds, progress)
        figures, sizes = [], {}
        if not self.options.kinds_only:
            figures = [figure for part in self.parts(stages[-1], floor) for figure in part]
            sizes = self.sizes(stages[-1].size)
        progress("")
        command = shlex.join(["python -m bench", *sys.argv[1:]])
        return report.Report(command.replace("'", ""), timings, figures, sizes)

    def parts(self, stage, floor):
        yield self.walks(stage)
        yield self.memory(stage)
        yield self.starts(stage)
        yield self.commands(stage)
        yield self.watching(stage)
        yield self.writes(stage)
        yield self.mixture(stage)
        yield self.imported(stage)
        yield self.scans()

    def open_stage(self, size):
        """Create missing databases, and start their servers."""
        ndjson, database = self.kept / f"catalogue-{self.label}{size}.ndjson", self.database(size)
        if not ndjson.exists():
            progress(f"drawing {size:,} images")
            catalogue.write(ndjson, size, at_once=self.options.one_moment)
        if not database.exists():
            progress(f"importing {size:,} images")
            partial = database.with_suffix(".partial")
            self.imports[size] = storage.load(partial, ndjson)
            partial.rename(database)
        servers = {flavor: self.stack.enter_context(serve(database, self.folder, flavor)) for flavor in FLAVORS}
        return timing.Stage(size, catalogue.Catalogue(ndjson), servers)

    def database(self, size):
        return self.kept / f"registry-{self.label}{size}.db"

    def walks(self, stage):
        limit = min(max(stage.size // 100, 10), 1000)
        for sort_key in SORT_KEYS:
            for sort_dir in ("asc", "desc") if self.options.full else ("desc",):
                progress(f"walking by {sort_key}")
                ratio, slowest = timing.walk(stage, sort_key, sort_dir, limit)
                found = f"{ratio:.2f} (slowest page {slowest:.0f} ms)"
                name = f"walk by {sort_key} {sort_dir}, {limit} a page: slowest tenth ÷ first"
                yield Figure(name, found, f"≤ {report.MOST_GROWTH}", ratio <= report.MOST_GROWTH)

    def memory(self, stage):
        most = max(server.worker_mebibytes() for server in stage.servers.values())
        yield Figure("memory of a worker, after", f"{most:.0f} MB", "≤ 80 MB", most <= 80)

    def starts(self, stage):
        progress("starting")
        pairs = []
        for _ in range(self.options.rounds):
            ours = timing.start_seconds(lambda: serve(self.database(stage.size), self.folder))
            floor = timing.start_seconds(lambda: Server(FLOOR, self.folder, self.floor_variables()))
            pairs.append((ours / floor, ours, floor))
        ratio, ours, floor = (median(column) for column in zip(*pairs, strict=True))
        yield Figure("start to first answer", f"{ratio:.2f} × ({ours:.2f} s, {floor:.2f} s)", "≤ 2 ×", ratio <= 2)

    def commands(self, stage):
        progress("starting commands")
        yield from commands.measure(self.database(stage.size), self.options.rounds)

    def floor_variables(self):
        return {"BENCH_ANSWERS": str(self.folder / "answers.json")}

    def watching(self, stage):
        progress("counting and logging")
        rounds, seconds = 3 * self.options.rounds, self.options.seconds
        found = watching.measure(self.database(stage.size), self.folder, rounds, seconds)
        shown = f"{found.watched - found.unwatched:.0f} µs of {found.watched:.0f}"
        yield Figure("a request counted and logged, list of 25: of its CPU time", shown)

    def writes(self, stage):
        progress("writing")
        rounds = 2 * self.options.rounds
        for found in writes.measure(self.database(stage.size), self.folder, self.ids(stage), rounds):
            shown = f"{found.ratio:.2f} ({found.rate:,.0f}/s; CPU {found.cpu_ratio:.2f})"
            yield Figure(f"{found.verb} ÷ raw sqlite3 behind Flask", shown, "≥ 0.5", found.ratio >= 0.5)

    def ids(self, stage):
        """Return images to change, from all parts of the catalogue."""
        entries = answers.listed(stage.catalogue, {}, None)
        return [entry.id for entry in Kinds(stage.catalogue, False).sample(entries, MOST_CHANGED)]

    def mixture(self, stage):
        progress(f"{mixture.CLIENTS} clients")
        kinds = {kind.name: kind.asks for kind in Kinds(stage.catalogue, False).all()}
        reads = [ask for name in ("show one", "list of 25, deep", "name, hit") for ask in kinds[name]]
        seconds = 60 if self.options.full else min(4, self.options.seconds * 20)
        found = mixture.measure(self.database(stage.size), self.folder, reads, self.ids(stage), seconds)
        many, ratio = f"{mixture.CLIENTS} clients at once", found.writes / found.writes_alone
        yield Figure(f"{many}: errors", f"{found.errors}", "0", found.errors == 0)
        shown = f"{ratio:.2f} ({found.writes:,.0f}/s)"
        yield Figure(f"{many}: writes ÷ one client's", shown, "≥ 0.8", ratio >= 0.8)
        slower = found.p99 / found.p99_readers_alone
        shown = f"{slower:.1f} × ({found.p99 / 1000:.0f} ms; one reader alone {found.p99_one_reader / 1000:.1f} ms)"
        yield Figure(f"{many}: p99 of reads ÷ the readers' alone", shown, "≤ 5 ×", slower <= 5)

    def imported(self, stage):
        """Measure imports of this run; a kept database has none."""
        if stage.size not in self.imports:
            return
        progress("importing by hand")
        found = self.imports[stage.size]
        ratio = storage.raw_import_seconds(self.database(stage.size), self.folder) / found.seconds
        shown = f"{ratio:.2f} ({stage.size / found.seconds:,.0f}/s)"
        yield Figure("import ÷ raw executemany", shown, "≥ 0.5", ratio >= 0.5)
        least = min(each.peak_mebibytes for each in self.imports.values())
        shown = f"{found.peak_mebibytes:.0f} MB (smallest catalogue {least:.0f} MB)"
        yield Figure("import: peak memory", shown, "flat: ≤ 1.5 ×", found.peak_mebibytes <= 1.5 * least)

    def scans(self):
        if not re.search(self.options.only, "scan"):
            return
        progress("scanning")
        folder = self.folder / "scans"
        folder.mkdir()
        sparse, dense = (3000, 2) if self.options.full else (600, 1)
        yield from scans.figures(*scans.measure(folder, self.options.rounds, sparse, dense))

    def sizes(self, size):
        return {name: pages / size for name, pages in storage.sizes(self.database(size)).items()}


def progress(words):
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{words}")
        sys.stderr.flush()


def say(words):
    sys.stdout.write(words)


if __name__ == "__main__":
    sys.exit(main())
