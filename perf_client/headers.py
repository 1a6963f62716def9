"""Headers that the user adds to requests: HTTP header fields, and over gRPC the call's metadata."""

import re
from collections.abc import Sequence

import msgspec

from perf_client.errors import usage_error
from perf_client.profile import LoadProfile, Protocol

Header = tuple[str, str]

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OURS = {
    "http": {"host", "content-length", "content-type", "content-encoding", "transfer-encoding", "connection",
             "inference-header-content-length"},
    "grpc": {"te", "content-type", "connection", "transfer-encoding"},
}  # fmt: skip
_SECRET = re.compile(r"auth|cookie|token|secret|key|password|credential", re.IGNORECASE)
_HIDDEN = "(hidden)"


def parse_header(text: str) -> Header:
    """``Name:Value``; blanks around the value don't count. Raises ValueError with a phrase."""
    name, colon, value = text.partition(":")
    name, value = name.strip(), value.strip()
    if not colon or not _NAME.fullmatch(name):
        raise ValueError(f"{text!r} is not NAME:VALUE")
    if not value.isprintable() or not value.isascii():
        raise ValueError(f"the value of {name} has characters that a header can't hold; write them in ASCII")
    return name, value


def check_headers(headers: Sequence[Header], protocol: Protocol) -> None:
    """Raise LoadError for a header that is part of the protocol itself."""
    for name, _ in headers:
        lower = name.lower()
        if lower in _OURS[protocol] or (protocol == "grpc" and lower.startswith("grpc-")):
            raise usage_error(f"-H {name}: it is set by perf-client itself over {protocol}; leave it out")


def without_secrets(profile: LoadProfile) -> LoadProfile:
    """For results, which are shown around: values of headers that may be credentials are hidden."""
    headers = tuple((name, _HIDDEN if _SECRET.search(name) else value) for name, value in profile.headers)
    return profile if headers == profile.headers else msgspec.structs.replace(profile, headers=headers)
