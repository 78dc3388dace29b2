"""The sample of a product of parameters that ``make test`` runs."""

import os
import subprocess
import sys
from itertools import product

import pytest
from conftest import ROOT
from support.sampling import sample

PRODUCT = {f"{a}-{b}-{c}": {"a": a, "b": b, "c": c} for a, b, c in product(range(12), "xyz", (True, False, None))}


def test_every_value_of_every_parameter_stays_in_a_sample_that_is_much_smaller():
    kept = sample(PRODUCT)

    values = [{(name, value) for name, value in PRODUCT[case].items()} for case in kept]
    assert set.union(*values) == {(name, value) for case in PRODUCT.values() for name, value in case.items()}
    assert len(kept) <= 12 + 3 + 3


def test_a_sample_does_not_depend_on_the_order_of_the_cases():
    assert sample(dict(reversed(PRODUCT.items()))) == sample(PRODUCT)


def test_values_that_are_equal_but_of_other_types_are_different_ones():
    assert sample({"a": {"n": 1}, "b": {"n": True}, "c": {"n": 1.0}}) == {"a", "b", "c"}


def test_cases_without_a_parameter_that_counts_have_a_sample_of_one():
    assert len(sample({"a": {}, "b": {}})) == 1


CONFTEST = """
import pytest
from support.sampling import mark_exhaustive

@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    mark_exhaustive(items)
"""
TESTS = """
import pytest

@pytest.mark.sampled
@pytest.mark.parametrize("b", range(3))
@pytest.mark.parametrize("a", range(4))
def test_product(a, b): ...

@pytest.mark.sampled("a")
@pytest.mark.parametrize(("a", "b"), [(0, 0), (0, 1), (1, 2)])
def test_table(a, b): ...

@pytest.mark.exhaustive
def test_long(): ...
"""
OPTIONS = ["--collect-only", "-q", "-p", "no:cacheprovider"]
OPTIONS += ["--strict-markers", "-o", "markers=sampled\nexhaustive"]


@pytest.mark.parametrize(
    ("expression", "of_product", "of_table", "of_long"), [("", {12}, 3, 1), ("not exhaustive", {4, 5, 6}, 2, 0)]
)
def test_a_run_has_all_cases_or_those_of_the_samples(tmp_path, expression, of_product, of_table, of_long):
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_here.py").write_text(TESTS)

    command = [sys.executable, "-m", "pytest", *OPTIONS, "-m", expression]
    variables = {**os.environ, "PYTHONPATH": str(ROOT / "tests"), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    process = subprocess.run(command, check=True, cwd=tmp_path, env=variables, capture_output=True, text=True)

    assert process.stdout.count("::test_product[") in of_product
    assert process.stdout.count("::test_table[") == of_table
    assert process.stdout.count("::test_long") == of_long
