"""Language rules for docstrings, comments and pages: standard terms and plain openings."""

import ast
import re

import pytest
from conftest import ROOT
from support.product import MODULES

PATHS = [*MODULES, *sorted((ROOT / "bench").glob("*.py"))]
TESTS = sorted((ROOT / "tests").rglob("*.py"))
TEMPLATES = sorted((ROOT / "ui" / "templates").glob("*.html"))
every_path = pytest.mark.parametrize("path", PATHS, ids=lambda path: str(path.relative_to(ROOT)))
BANNED_OPENINGS = re.compile(
    r"(What|Whether|Who|Whom|Whose|Of|Where|As|It|The same|So|Such|Those|These|That|Like|How|All that)\b"
)
BANNED_WORDS = re.compile(r"\b(anew|lest|hither|thereof|whosoever|behold|ere|whom)\b", re.IGNORECASE)
# Parts of a template that hold visible text: literals of Jinja, attributes, and the text between tags.
JINJA = re.compile(r"\{%.*?%\}|\{\{.*?\}\}", re.DOTALL)
LITERAL = re.compile(r'"([^"]*)"')
ATTRIBUTE = re.compile(r'\b(?:title|aria-label|placeholder|alt)="([^"]*)"')
TAG = re.compile(r"<[^>]*>")
SENTENCE_END = re.compile(r"(?<=[.:;?!])\s+")
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


def sentences_of(template):
    """Yield the sentences that a template shows, without the values in them."""
    literals = [text for part in JINJA.findall(template) for text in LITERAL.findall(part)]
    markup = JINJA.sub("\n", template)
    for text in (*literals, *ATTRIBUTE.findall(markup), *TAG.sub("\n", markup).splitlines()):
        yield from SENTENCE_END.split(text.strip())


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


@pytest.mark.parametrize("path", TESTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_docstring_of_a_test_module_begins_plainly(path):
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""

    assert not BANNED_OPENINGS.match(docstring)


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_visible_text_of_a_template_begins_plainly_and_has_no_archaic_words(path):
    sentences = list(sentences_of(path.read_text(encoding="utf-8")))

    assert [text for text in sentences if BANNED_OPENINGS.match(text) or BANNED_WORDS.search(text)] == []


def test_planted_sentences_of_a_template_are_found():
    template = '<p title="Of old">Saved. What was <b>before</b> {{ "As it is" if old }} is gone.</p>{% set x = "So" %}'

    found = [text for text in sentences_of(template) if BANNED_OPENINGS.match(text)]

    assert sorted(found) == ["As it is", "Of old", "So", "What was"]


@pytest.mark.parametrize("opening", ["What a page may do.", "Whether it answers.", "The same, for tokens."])
def test_a_planted_opening_is_found(opening):
    assert BANNED_OPENINGS.match(opening)
