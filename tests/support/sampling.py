"""Samples of large products of parameters, so that ``make test`` stays short; ``make test-all`` runs every case."""

from zlib import crc32

import pytest


def sample(cases):
    """Return the names of the cases to keep, so that every value of every parameter occurs.

    ``cases`` maps the name of a case to its ``{parameter: value}``. In the order of the CRC-32 of the names, a case
    is kept if it shows a value of some parameter for the first time. The pairs are therefore mixed, but always the
    same ones, and a new case moves only the cases that share its values.
    """
    kept, seen = set(), set()
    for name in sorted(cases, key=lambda name: (crc32(name.encode(errors="backslashreplace")), name)):
        shown = {(parameter, repr(value)) for parameter, value in cases[name].items()}
        if shown - seen or not kept:
            kept.add(name)
            seen |= shown
    return kept


def mark_exhaustive(items):
    """Mark the cases outside the samples: of tests marked ``sampled``, and of those that visit pages.

    The arguments of the mark name the parameters whose values must all occur; without any, these are all parameters
    of the test. "path method" names two that count together. A test that takes the fixture ``browser`` at every size
    is sampled at one, so that each size is that of about half of these tests.
    """
    tests = {}
    for item in items:
        tests.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for name, cases in tests.items():
        kept = kept_cases(name, cases)
        for item in cases:
            if item not in kept:
                item.add_marker(pytest.mark.exhaustive)


def kept_cases(name, items):
    """Return those of a test's cases that ``make test`` runs."""
    if items[0].get_closest_marker("sampled"):
        names = sample({item.callspec.id: values_of(item) for item in items})
        return [item for item in items if item.callspec.id in names]
    sizes = sorted({item.callspec.params["browser"] for item in items if "browser" in params_of(item)})
    if len(sizes) > 1:
        size = sizes[crc32(name.rpartition("::")[2].encode()) % len(sizes)]
        return [item for item in items if params_of(item)["browser"] == size]
    return items


def params_of(item):
    return item.callspec.params if hasattr(item, "callspec") else {}


def values_of(item):
    """Return {parameter: value} of one case, of the parameters that its mark ``sampled`` names."""
    values = item.callspec.params
    named = item.get_closest_marker("sampled").args or values
    return {names: [values[name] for name in names.split()] for names in named}
