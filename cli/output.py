"""Output of commands: colours, column widths, tables, JSON."""

import os
import shutil
import sys
from unicodedata import category, east_asian_width

import click
import orjson

from cli.param_types import cleaned

COLOURS = {"active": "green", "queued": "yellow", "saving": "yellow", "killed": "red", "deactivated": "magenta"}
GONE = "bright_black"
GAP = "  "
ELLIPSIS = "…"
MIN_FLEXIBLE_COLUMNS = 24
LINES_PER_ECHO = 500
ZERO_WIDTH = ("Mn", "Me", "Cf")  # categories of combining marks and joiners


def is_terminal():
    """Return whether output is for people: a terminal, or FORCE_COLOR is set."""
    return sys.stdout.isatty() or bool(os.environ.get("FORCE_COLOR"))


def is_coloured():
    return is_terminal() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def styled(text, **style):
    return click.style(text, **style) if is_coloured() else text


def echo(text, **options):
    if sys.stdout.errors == "strict":  # escape letters that the locale's encoding lacks
        sys.stdout.reconfigure(errors="backslashreplace")
    click.echo(text, color=is_coloured(), **options)


def echo_lines(lines):
    """Print lines in blocks: every echo is a write of its own."""
    kept = []
    for line in lines:
        kept.append(line)
        if len(kept) == LINES_PER_ECHO:
            echo("\n".join(kept))
            kept = []
    if kept:
        echo("\n".join(kept))


def json_text(value, *, is_indented=True):
    """Return JSON with control characters escaped for terminals."""
    text = orjson.dumps(value, option=orjson.OPT_INDENT_2 if is_indented else 0).decode()
    return text if text.replace("\n", "").isprintable() else "".join(map(escaped, text))


def escaped(letter):
    if letter == "\n" or letter.isprintable():
        return letter
    number = ord(letter)
    if number < 0x10000:
        return f"\\u{number:04x}"
    return f"\\u{0xD800 + (number - 0x10000 >> 10):04x}\\u{0xDC00 + (number & 0x3FF):04x}"


def echo_json_array(values):
    """Print a JSON array, one entry a line, as the values arrive."""
    start = "["
    for value in values:
        echo(f"{start}\n{json_text(value, is_indented=False)}", nl=False)
        start = ","
    echo("[]" if start == "[" else "\n]")


def width():
    return shutil.get_terminal_size((100, 24)).columns


def cells(text):
    """Return the number of terminal columns of a text."""
    if text.isascii():
        return len(text)
    return sum(0 if category(letter) in ZERO_WIDTH else 1 + (east_asian_width(letter) in "WF") for letter in text)


def shortened(text, most):
    """Return the text in at most ``most`` columns.

    Start and end, as names differ at both.
    """
    if cells(text) <= most:
        return text
    front, back = (most - 1) - (most - 1) // 3, (most - 1) // 3
    while cells(text[:front]) + cells(text[len(text) - back :]) > most - 1:
        front, back = (front - 1, back) if front > back else (front, back - 1)
    return text[:front] + ELLIPSIS + text[len(text) - back :]


def padded(text, columns, is_right=False):
    space = " " * (columns - cells(text))
    return space + text if is_right else text + space


class Table:
    """Text table; if too wide, columns in ``dropped`` are omitted, then ``flexible`` is shortened."""

    def __init__(self, titles, *, flexible, dropped=(), right=(), style=lambda title, text, row: text):
        self.titles = titles
        self.flexible = flexible
        self.dropped = dropped
        self.right = right
        self.style = style

    def lines(self, rows, most=None):
        """Yield the lines of rows ({title: text}), without empty columns."""
        most = most or width()
        rows = [{title: cleaned(row[title]) for title in self.titles} for row in rows]
        kept = [title for title in self.titles if any(row[title] for row in rows)]
        widths = {title: max([cells(title), *(cells(row[title]) for row in rows)]) for title in kept}
        for title in self.dropped:
            rest = most - sum(widths.values()) - len(GAP) * (len(widths) - 1)
            if rest >= 0 or widths[self.flexible] + rest >= MIN_FLEXIBLE_COLUMNS:
                break
            widths.pop(title, None)
        if self.flexible in widths:
            rest = most - sum(widths.values()) - len(GAP) * (len(widths) - 1)
            widths[self.flexible] = min(widths[self.flexible], max(widths[self.flexible] + rest, MIN_FLEXIBLE_COLUMNS))
        yield self.line({title: title for title in self.titles}, widths, is_head=True)
        for row in rows:
            yield self.line(row, widths)

    def line(self, row, widths, is_head=False):
        parts = []
        for title, columns in widths.items():
            text = padded(shortened(row[title], columns), columns, title in self.right)
            parts.append(styled(text, bold=True) if is_head else self.style(title, text, row))
        return GAP.join(parts).rstrip()


def status_styled(text, status, is_deleted=False):
    """Return a status text, possibly padded, in the colour of its status."""
    return styled(text, fg=GONE if is_deleted else COLOURS.get(status, "red"))
