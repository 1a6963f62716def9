"""The id of an infer request, found in its JSON without parsing it: all the rest repeats from request to request."""

_KEY = b'"id":'


def split_id(text: bytes) -> tuple[bytes, str]:
    """The JSON without what looks like the value of its id, and that value; the whole and "" where nothing does.

    Whether it really is the request's id is for the caller to find out, see ``with_id``.
    """
    if _KEY not in text or not (start := _start(text)):
        return text, ""
    end = text.find(b'"', start)
    if end <= start:
        return text, ""
    value = text[start:end]
    if value.isascii() and b"\\" not in value:
        decoded = value.decode("ascii")
        if decoded.isprintable():
            return text[:start] + text[end:], decoded
    return text, ""


def with_id(text: bytes, value: str) -> bytes:
    """The JSON with another value where ``split_id`` found one."""
    start = _start(text)
    return text[:start] + value.encode("ascii") + text[text.find(b'"', start) :]


def _start(text: bytes) -> int:
    """Where the value begins, behind its quote; 0 where there is none."""
    at = text.find(_KEY)
    if at < 0:
        return 0
    at += len(_KEY)
    if text[at : at + 1] == b'"':
        return at + 1
    return at + 2 if text[at : at + 2] == b' "' else 0
