"""Language rules for docstrings and comments: standard terms and plain openings."""

import ast
import re

import pytest
from conftest import ROOT
from support.product import MODULES

PATHS = [*MODULES, *sorted((ROOT / "bench").glob("*.py"))]
every_path = pytest.mark.parametrize("path", PATHS, ids=lambda path: str(path.relative_to(ROOT)))
BANNED_OPENINGS = re.compile(
    r"(What|Whether|Who|Whom|Whose|Of|Where|As|It|The same|So|Such|Those|These|That|Like|How|All that)\b"
)
BANNED_WORDS = re.compile(r"\b(anew|lest|hither|thereof|whosoever|behold|ere|whom)\b", re.IGNORECASE)
LONGEST_SUMMARY = 80


def docstrings_of(path):
    """Yield (line, node, docstring) of a module, its classes and functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (docstring := ast.get_docstring(node)):
            yield getattr(node, "lineno", 1), node, docstring


def comments_of(path):
    """Yield (line, text) of each comment that fills a line."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.strip().startswith("# "):
            yield number, line.strip().removeprefix("# ")


@every_path
def test_no_docstring_begins_with_a_banned_opening(path):
    found = [(line, text) for line, _, text in docstrings_of(path) if BANNED_OPENINGS.match(text)]

    assert found == []


@every_path
def test_the_summary_of_a_function_is_one_short_sentence(path):
    summaries = [
        (line, docstring.splitlines()[0])
        for line, node, docstring in docstrings_of(path)
        if isinstance(node, ast.FunctionDef)
    ]

    assert [(line, text) for line, text in summaries if len(text) > LONGEST_SUMMARY or not text.endswith(".")] == []


@every_path
def test_docstrings_and_comments_use_no_archaic_words(path):
    texts = [(line, text) for line, _, text in docstrings_of(path)] + list(comments_of(path))

    assert [(line, text) for line, text in texts if BANNED_WORDS.search(text)] == []


@pytest.mark.parametrize("opening", ["What a page may do.", "Whether it answers.", "The same, for tokens."])
def test_a_planted_opening_is_found(opening):
    assert BANNED_OPENINGS.match(opening)
