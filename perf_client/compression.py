"""Bodies and messages made smaller: gzip, and deflate, which for HTTP and gRPC means the zlib format (RFC 1950)."""

import gzip
import zlib

from perf_client.profile import Compression

_GZIP_OR_ZLIB = zlib.MAX_WBITS | 32
"""Either format, told by its header."""


class BadCompression(Exception):
    """What came is not what its encoding says."""


def compress(data: bytes, compression: Compression) -> bytes:
    match compression:
        case "none":
            return data
        case "gzip":
            return gzip.compress(data, mtime=0)
        case "deflate":
            return zlib.compress(data)


def decompress(data: bytes, encoding: str) -> bytes:
    """``encoding`` as a content-encoding or grpc-encoding names it."""
    match encoding.strip().lower():
        case "" | "identity" | "none":
            return data
        case "gzip" | "x-gzip" | "deflate":
            try:
                return zlib.decompress(data, _GZIP_OR_ZLIB)
            except zlib.error as error:
                raise BadCompression(f"not {encoding}: {error}") from None
        case _:
            raise BadCompression(f"the encoding {encoding!r} was not asked for")
