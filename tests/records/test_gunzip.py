"""Gzip up to a bound."""

import gzip
import io
import resource

import pytest

from records import gunzip
from records.errors import InputError
from records.gunzip import gunzipped

AGAIN = "get it again"


def test_plain_and_gzipped_content():
    assert gunzipped(b"plain", "x", AGAIN) == b"plain"
    assert gunzipped(gzip.compress(b"packed"), "x", AGAIN) == b"packed"
    assert gunzipped(gzip.compress(b"two") + gzip.compress(b"parts"), "x", AGAIN) == b"twoparts"


def _zeros(size):
    """``size`` MiB, packed without ever being there."""
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb") as stream:
        for _ in range(size):
            stream.write(bytes(1 << 20))
    return packed.getvalue()


@pytest.mark.parametrize("parts", [1, 3])
def test_a_bomb_takes_no_memory(monkeypatch, parts):
    """One of several members, each below the bound, is found too."""
    monkeypatch.setattr(gunzip, "MAX_FILE_BYTES", 70 << 20)
    bomb = _zeros(96 // parts) * parts
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match="bomb: .* inflate to more than .*trust"):
        gunzipped(bomb, "bomb", AGAIN)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30 << 10


def test_at_the_bound(monkeypatch):
    monkeypatch.setattr(gunzip, "MAX_FILE_BYTES", 5000)
    assert len(gunzipped(gzip.compress(bytes(5000)), "x", AGAIN)) == 5000
    with pytest.raises(InputError, match="more than 5000"):
        gunzipped(gzip.compress(bytes(5001)), "x", AGAIN)


@pytest.mark.parametrize("change", [lambda d: d[:-9], lambda d: d[:12] + b"?" + d[13:]])
def test_broken(change):
    with pytest.raises(InputError, match="x.gz: .*broken gzip.*get it again|x.gz.*broken gzip"):
        gunzipped(change(gzip.compress(bytes(range(256)) * 9)), "x.gz", AGAIN)
