"""Keyed variates: frozen vectors and statistics."""

import hashlib

import numpy as np
import pytest
from scipy import stats

from faceprivacy_core.keyed import keystream
from faceprivacy_core.keyed.keystream import Keystream
from tests.support.keyed import RAW_KEY


def test_first_bytes_are_those_of_rfc_8439():
    """Appendix A.1, test vector 1: zero key, zero nonce, counter 0."""
    assert Keystream(bytes(32)).take(16).hex() == "76b8e0ada0f13d90405d6ae55386bd28"


def test_the_normal_table_is_the_published_one():
    table = (keystream._NORMAL_TABLE * 65536).astype("<i4")
    expected = "ee46eda6f743ea9b2949c72134d6385025bcc7573bb0fba98b3bf40224779880"
    assert hashlib.sha256(table.tobytes()).hexdigest() == expected


def test_variates_are_frozen():
    """Another value here would make every picture encrypted so far unreadable."""
    stream = Keystream(RAW_KEY)
    assert stream.signs(8).tolist() == [-1, 1, 1, -1, -1, -1, 1, 1]
    assert stream.permutation(10).tolist() == [8, 7, 5, 3, 4, 1, 0, 2, 6, 9]
    assert (stream.normals(3) * 65536).tolist() == [109041, 77880, -23822]


def test_a_stream_goes_on_and_another_key_gives_another():
    whole, parts = Keystream(RAW_KEY).take(100), Keystream(RAW_KEY)
    assert parts.take(37) + parts.take(63) == whole
    assert Keystream(b"\1" + RAW_KEY[1:]).take(100) != whole


def test_bits_and_bytes_are_even():
    data = np.frombuffer(Keystream(RAW_KEY).take(2**20), np.uint8)
    ones = int(np.unpackbits(data).sum())
    assert abs(ones - 2**22) < 4 * (2**23 / 4) ** 0.5
    assert stats.chisquare(np.bincount(data, minlength=256)).pvalue > 1e-3


def test_normals_are_normal():
    values = Keystream(RAW_KEY).normals(200_000)
    assert stats.kstest(values, "norm").pvalue > 1e-3
    assert values.std() == pytest.approx(1.0, abs=0.01)


def test_a_permutation_holds_every_item_once():
    assert sorted(Keystream(RAW_KEY).permutation(5003)) == list(range(5003))


def test_it_shows_nothing():
    assert repr(Keystream(RAW_KEY)) == "<Keystream>"
