"""The form of every record that crosses a file or a process: frozen, strict, and hashed by content."""

import hashlib

import msgspec

Scalar = bool | int | float | str


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every record: frozen, named fields only, unknown fields are an error."""


def content_key(*parts: object) -> str:
    """Sixteen hex digits that name the content of records: SHA-256 of their canonical JSON (fields and keys sorted)."""
    digest = hashlib.sha256(msgspec.json.encode(parts, order="sorted"))
    return digest.hexdigest()[:16]
