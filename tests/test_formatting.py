"""Formatting and parsing of sizes, times and texts."""

from datetime import UTC, datetime, timedelta

import click
import pytest

import formatting
from cli.output import cells, json_text, shortened
from cli.param_types import Pair, Since, Size, cleaned

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (None, ""),
        (0, "0 bytes"),
        (1, "1 byte"),
        (1023, "1,023 bytes"),
        (1024, "1.0 KiB"),
        (21430272, "20.4 MiB"),
        (1024**2 * 999, "999.0 MiB"),
        (1024**2 * 1000, "1.0 GiB"),
        (1024**3 - 1, "1.0 GiB"),
        (2**63 - 1, "8.0 EiB"),
    ],
)
def test_a_size_is_read_in_its_unit(count, text):
    assert formatting.format_size(count) == text


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("0", 0),
        ("4096", 4096),
        ("4096B", 4096),
        ("2G", 2 * 1024**3),
        ("2g", 2 * 1024**3),
        ("2 GiB", 2 * 1024**3),
        ("2GB", 2 * 10**9),
        ("1.5K", 1536),
        ("1.000001E", (1000001 * 2**60 + 500000) // 10**6),  # more digits than a float holds
    ],
)
def test_a_size_is_written_in_any_unit(text, count):
    assert Size().convert(text, None, None) == count


@pytest.mark.parametrize("text", ["", "x", "-1", "1.5", "1,5G", "2X", "G", "1e3", "٣", "9223372036854775808", "8E"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(click.BadParameter):
        Size().convert(text, None, None)


def test_a_size_in_larger_units_is_a_whole_number_of_them():
    assert [Size(1024**3).convert(text, None, None) for text in ("20", "20G", "2048M")] == [20, 20, 2]
    with pytest.raises(click.BadParameter, match="not a whole number of GB"):
        Size(1024**3).convert("1500M", None, None)


@pytest.mark.parametrize(
    ("ago", "text"),
    [
        (timedelta(seconds=59), "just now"),
        (timedelta(minutes=1), "1 minute ago"),
        (timedelta(minutes=59, seconds=59), "59 minutes ago"),
        (timedelta(hours=2), "2 hours ago"),
        (timedelta(days=29), "29 days ago"),
        (timedelta(days=45), "1 month ago"),
        (timedelta(days=364), "12 months ago"),
        (timedelta(days=800), "2 years ago"),
        (timedelta(days=-2), "in 2 days"),
    ],
)
def test_a_time_is_read_as_how_long_ago(ago, text):
    then = (NOW - ago).replace(tzinfo=None).isoformat(timespec="microseconds")

    assert formatting.format_age(then, NOW) == text


def test_a_time_is_written_as_how_long_ago_or_as_the_api_takes_it():
    since = datetime.fromisoformat(Since().convert("2d", None, None)).replace(tzinfo=UTC)

    assert timedelta(days=2) <= datetime.now(UTC) - since < timedelta(days=2, minutes=5)
    assert Since().convert("2026-11-24", None, None) == "2026-11-24T00:00:00.000000"
    with pytest.raises(click.BadParameter, match="or an age such as 2d"):
        Since().convert("5x", None, None)


@pytest.mark.parametrize(("text", "pair"), [("a=b", ("a", "b")), ("a=b=c", ("a", "b=c")), ("a=", ("a", ""))])
def test_a_pair_is_parted_at_its_first_sign(text, pair):
    assert Pair().convert(text, None, None) == pair


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("debian ü 日本 \N{PENGUIN}", "debian ü 日本 \N{PENGUIN}"),
        ("\N{FAMILY}\u200d\N{BOY}", "\N{FAMILY}\u200d\N{BOY}"),
        ("a\nb\tc\x1b[0m\x9b\x7f", r"a\nb\tc\x1b[0m\x9b\x7f"),
        ("\u202eabc\u2066\ufeff", r"\u202eabc\u2066\ufeff"),
        ("\udcff", r"\udcff"),
    ],
)
def test_what_does_not_print_is_written_out(text, shown):
    assert cleaned(text) == shown


def test_json_is_the_same_value_with_what_does_not_print_escaped():
    text = json_text({"\x9b": "\u202e\U000e0001\n\N{PENGUIN}"}, is_indented=False)

    assert text == '{"\\u009b":"\\u202e\\udb40\\udc01\\n\N{PENGUIN}"}'


def test_a_text_is_shortened_to_so_many_columns_however_wide_its_letters():
    for text in ("ubuntu-24.04-server-cloudimg-amd64.img", "日本語" * 20, "a" + "日" * 40, "日" * 40 + "a"):
        for most in range(5, 30):
            short = shortened(text, most)
            assert most - 2 <= cells(short) <= most
            assert short[0] == text[0]
    assert shortened("ubuntu-24.04-server-cloudimg-amd64.img", 20) == "ubuntu-24.04-…64.img"
