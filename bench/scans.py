"""Benchmark of ``scan`` against md5sum and sha512sum: ``python -m bench.scans``."""

import argparse
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

from bench.report import Figure, table
from bench.servers import ROOT

MEBIBYTE = 1024 * 1024
LEAST_RATIO = 0.8
SPARSE_SIZES = (1, 2, 4, 8)  # MiB, in turn
DENSE_SIZE = 256
SUMS = ("md5sum", "sha512sum")


class Cost(NamedTuple):
    seconds: float
    cpu: float


class Round(NamedTuple):
    """Compare ``scan`` with the two programs, in sequence and in parallel on two cores."""

    scan: Cost
    in_turn: Cost
    at_once: Cost
    again: Cost


def make_files(folder: Path, sparse: int, dense: int) -> int:
    """Write sparse and whole images; return their bytes."""
    draw = random.Random(1)  # noqa: S311
    for number in range(sparse):
        size = SPARSE_SIZES[number % len(SPARSE_SIZES)] * MEBIBYTE
        with (folder / f"sparse-{number:05}.img").open("wb") as file:
            file.truncate(size)
            file.seek(draw.randrange(size - 4096))
            file.write(draw.randbytes(4096))
    for number in range(dense):
        with (folder / f"dense-{number}.img").open("wb") as file:
            for _ in range(DENSE_SIZE):
                file.write(draw.randbytes(MEBIBYTE))
    return sum(path.stat().st_size for path in folder.iterdir())


def cost_of(*commands, **options) -> Cost:
    """Return the seconds of all commands in parallel."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    processes = [subprocess.Popen(command, **quiet, **options) for command in commands]  # noqa: S603
    codes = [process.wait() for process in processes]
    if any(codes):
        raise RuntimeError(f"{commands[0][0]} failed")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(time.perf_counter() - start, cpu)


def measure(folder: Path, rounds: int, sparse: int, dense: int) -> tuple[int, list[Round]]:
    """Return (bytes, rounds); all files are in memory, so hashing dominates."""
    images = folder / "images"
    images.mkdir()
    size = make_files(images, sparse, dense)
    paths = sorted(map(str, images.iterdir()))
    sums = [[program, *paths] for program in SUMS]
    cost_of(*sums)
    found = []
    for number in range(rounds):
        variables = {**os.environ, "REGISTRY_DATABASE_CONNECTION": f"sqlite:///{folder}/scan-{number}.db"}
        scan = [Path(sys.executable).with_name("flask"), "--app", "registry", "scan", images]
        scanned = cost_of(scan, cwd=ROOT, env=variables)
        in_turn = [cost_of(command) for command in sums]
        at_once = cost_of(*sums)
        again = cost_of(scan, cwd=ROOT, env=variables)
        found.append(Round(scanned, Cost(*map(sum, zip(*in_turn, strict=True))), at_once, again))
    return size, found


def figures(size: int, rounds: list[Round]):
    seconds = median(each.scan.seconds for each in rounds)
    at_once = median(each.at_once.seconds / each.scan.seconds for each in rounds)
    in_turn = median(each.in_turn.seconds / each.scan.seconds for each in rounds)
    cpu = median(each.in_turn.cpu / each.scan.cpu for each in rounds)
    rate = size / seconds / MEBIBYTE
    target = f"≥ {LEAST_RATIO}"
    yield Figure(
        "scan ÷ md5sum and sha512sum at once", f"{at_once:.2f} ({rate:,.0f} MiB/s)", target, at_once >= LEAST_RATIO
    )
    yield Figure("scan ÷ md5sum, then sha512sum", f"{in_turn:.2f}", target, in_turn >= LEAST_RATIO)
    yield Figure("scan ÷ md5sum and sha512sum: CPU", f"{cpu:.2f}", target, cpu >= LEAST_RATIO)
    yield Figure("scan again, nothing changed", f"{median(each.again.seconds for each in rounds):.1f} s")


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.scans", description=__doc__)
    parser.add_argument("--sparse", type=int, default=3000, help="sparse files of 1 to 8 MiB")
    parser.add_argument("--dense", type=int, default=2, help=f"files of {DENSE_SIZE} MiB")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the files are made, and removed again")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.folder) as folder:
        size, rounds = measure(Path(folder), options.rounds, options.sparse, options.dense)
    found = list(figures(size, rounds))
    rows = [[figure.name, figure.found, figure.target] for figure in found]
    sys.stdout.write(f"{table([['figure', 'found', 'target'], *rows])}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
