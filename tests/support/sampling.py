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
        shown = {(parameter, type(value), repr(value)) for parameter, value in cases[name].items()}
        if shown - seen or not kept:
            kept.add(name)
            seen |= shown
    return kept


def mark_exhaustive(items):
    """Mark the cases of each test marked ``sampled`` that are outside its sample.

    The arguments of the mark name the parameters whose values must all occur; without any, these are all parameters
    of the test.
    """
    tests = {}
    for item in items:
        if item.get_closest_marker("sampled"):
            tests.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for cases in tests.values():
        kept = sample({item.callspec.id: values_of(item) for item in cases})
        for item in cases:
            if item.callspec.id not in kept:
                item.add_marker(pytest.mark.exhaustive)


def values_of(item):
    """Return {parameter: value} of one case, of the parameters that its mark ``sampled`` names."""
    values = item.callspec.params
    return {name: values[name] for name in item.get_closest_marker("sampled").args or values}
