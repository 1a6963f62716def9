"""A POSIX shared memory object with given bytes, for as long as a ``with`` block lasts."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def shared_object(data: bytes) -> Iterator[str]:
    """Gives its key."""
    path = Path("/dev/shm") / f"test_{uuid.uuid4().hex}"
    path.write_bytes(data)
    try:
        yield f"/{path.name}"
    finally:
        path.unlink()
