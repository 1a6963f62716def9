import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perf_client.compression import BadCompression, compress, decompress


@given(st.binary(), st.sampled_from(["none", "gzip", "deflate"]))
def test_what_is_compressed_comes_back(data: bytes, compression):
    assert decompress(compress(data, compression), compression) == data


def test_deflate_is_the_zlib_format_and_gzip_says_no_time():
    assert zlib.decompress(compress(b"x", "deflate")) == b"x"
    assert gzip.decompress(compress(b"x", "gzip")) == b"x"
    assert compress(b"x", "gzip") == compress(b"x", "gzip")


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br"])
def test_what_is_not_in_its_encoding_is_told(encoding: str):
    with pytest.raises(BadCompression, match=encoding):
        decompress(b"plain", encoding)


def test_an_answer_may_come_as_it_is():
    assert decompress(b"plain", "") == decompress(b"plain", "identity") == b"plain"
