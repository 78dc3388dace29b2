"""What opens a location is shown to nobody, whatever its scheme calls it."""

import pytest

from masking import masked


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (None, None),
        ("file:///var/lib/a.qcow2", "file:///var/lib/a.qcow2"),
        ("https://host/a;b@c", "https://host/a;b@c"),
        ("rbd://cluster/pool/image/snap", "rbd://cluster/pool/image/snap"),
        ("https://user:word@host/a", "https://•••@host/a"),
        ("https://user:w@rd@host/a@b", "https://•••@host/a@b"),
        ("s3://key@bucket/x", "s3://•••@bucket/x"),
        ("swift+https://ten%3Ant:user:key@host/v1", "swift+https://•••@host/v1"),
        ("http://user:word@[broken", "http://•••@[broken"),
        ("https://h/a?X-Amz-Signature=abc&X-Amz-Date=2", "https://h/a?X-Amz-Signature=•••&X-Amz-Date=•••"),
        ("https://h/a?sig=&code=x#access_token=y", "https://h/a?sig=&code=•••#access_token=•••"),
        ("https://h/a?a=b=c&d", "https://h/a?a=•••&•••"),
        ("https://h/a?e4f0c4c7e9a570c1", "https://h/a?•••"),
        ("x:a\nb", "x:a b"),
    ],
)
def test_what_opens_a_location_is_masked(url, shown):
    assert masked(url) == shown
