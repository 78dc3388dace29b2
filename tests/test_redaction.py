"""Redaction of the credentials in locations, for every URL scheme."""

import re
import string

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from formatting import MASK, redact_url

WORDS = st.text(string.ascii_uppercase + string.digits, min_size=6, max_size=12)
# A key as stores make them up and people paste them: words, with what should have been escaped between them.
KEYS = st.lists(st.tuples(WORDS, st.sampled_from("/?#;&=@:%+ ")), min_size=1, max_size=4).map(
    lambda pairs: "".join(map("".join, pairs))[:-1]
)
VALUES = KEYS.map(lambda key: re.sub("[#;&]", "/", key))
SCHEMES = st.sampled_from(["https://", "http://", "https:/", "https:", "s3://", "swift+https://", "rbd://", "//", ""])
PLACES = st.sampled_from(["host", "host:8443", "host/bucket/object", "[::1]:80/x", "", "host/v1/x?a=b"])
unhurried = settings(deadline=None)
PATHS = st.text("abz09./-_~+,!$'()*@", max_size=30)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (None, None),
        ("file:///var/lib/a.qcow2", "file:///var/lib/a.qcow2"),
        ("file:///data/R&D;2:a=b@c.iso", "file:///data/R&D;2:a=b@c.iso"),
        ("file:////user:word@host/a", "file:////•••@host/a"),
        ("https://host/a@c", "https://host/a@c"),
        ("http://host/path@version", "http://host/path@version"),
        ("rbd://cluster/pool/image/snap", "rbd://cluster/pool/image/snap"),
        ("https://user:word@host/a", "https://•••@host/a"),
        ("https://user:w@rd@host/a", "https://•••@host/a"),
        ("https://user:w@rd@host/a@b", "https://•••@b"),
        ("s3://key@bucket/x", "s3://•••@bucket/x"),
        ("s3://AKIA:wJalr/K7MD/bPx@s3.host/bucket/obj", "s3://•••@s3.host/bucket/obj"),
        ("swift+https://ten%3Ant:user:key@host/v1", "swift+https://•••@host/v1"),
        ("swift+https://account%3Auser:k/e/y@auth:5000/v1", "swift+https://•••@auth:5000/v1"),
        ("s3://AKIA%3awJalr/K7@host/x", "s3://•••@host/x"),
        ("http://user:word@[broken", "http://•••@[broken"),
        ("https:/user:pw@host", "https:/•••@host"),
        ("https:us/er@host", "•••@host"),
        ("http://user:p?w@host", "http://•••"),
        ("https://host:1/a?sig=ab@cd", "https://•••"),
        ("https://h/p;token=SECRET", "https://h/p;token=•••"),
        ("https://h/x&sig=abc", "https://h/x&sig=•••"),
        ("https://host/a;b@c", "https://host/a;•••"),
        ("https://h/a?X-Amz-Signature=abc&X-Amz-Date=2", "https://h/a?X-Amz-Signature=•••&X-Amz-Date=•••"),
        ("https://h/a?sig=&code=x#access_token=y", "https://h/a?sig=&code=•••#access_token=•••"),
        ("https://h/a?a=b=c&d", "https://h/a?a=•••&•••"),
        ("https://h/a?e4f0c4c7e9a570c1", "https://h/a?•••"),
        ("x:a\nb", "x:a b"),
    ],
)
def test_what_opens_a_location_is_masked(url, shown):
    assert redact_url(url) == shown


def words_shown(secret, url):
    return [word for word in re.findall(r"[A-Z0-9]{6,}", secret) if word in redact_url(url)]


@unhurried
@given(SCHEMES, KEYS, KEYS, PLACES)
def test_no_word_of_user_and_password_is_shown_however_they_are_written(scheme, user, password, place):
    assert words_shown(f"{user} {password}", f"{scheme}{user}:{password}@{place}") == []


@unhurried
@given(SCHEMES, st.sampled_from("?&;#"), VALUES, PLACES)
def test_no_word_of_a_parameter_is_shown_wherever_it_stands(scheme, mark, value, place):
    assert words_shown(value, f"{scheme}host/path{mark}sig={value}") == []
    assert words_shown(value, f"{scheme}user:word@{place}{mark}sig={value}{mark}x=y@z") == []


@unhurried
@given(PATHS)
def test_a_path_without_secrets_is_shown_whole(path):
    assert redact_url(f"https://host/{path}") == f"https://host/{path}"


@unhurried
@given(st.text(), st.text(":/?#;&=@% a", max_size=20))
def test_what_is_masked_once_stays_so(start, rest):
    once = redact_url(f"{start}{rest}")

    assert redact_url(once) == once
    assert MASK in once or once == " ".join(f"{start}{rest}".split())
