"""Where every exporter writes: beside the place first, then moved there, so that no torn file bears its name."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from analyzer.errors import InputError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path to write to; what stands there when the block ends well takes the place of ``path``."""
    partial = path.with_name(path.name + ".partial")
    try:
        partial.unlink(missing_ok=True)
        yield partial
        partial.replace(path)
    except OSError as error:
        raise InputError(f"can't write {path}: {error.strerror}; choose another place with --output") from None
    finally:
        if path.parent.is_dir():
            partial.unlink(missing_ok=True)
