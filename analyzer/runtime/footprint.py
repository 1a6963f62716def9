"""The files of a model folder, as two looks at them can be compared."""

import os
from collections.abc import Iterator
from pathlib import Path

from analyzer.runtime.repository_diff import Footprint


def footprint(folder: Path) -> Footprint:
    return dict(_files(str(folder), "", set()))


def _files(folder: str, prefix: str, above: set[tuple[int, int]]) -> Iterator[tuple[str, tuple[int, int]]]:
    """Follows links, as models are often put in place by one; a link into a folder above ends there."""
    try:
        own = Path(folder).stat()
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    identity = (own.st_dev, own.st_ino)
    if identity in above:
        return
    for entry in entries:
        if entry.name.startswith(".") or entry.name == "__pycache__":
            continue  # Python writes there when it loads a model
        path = f"{prefix}{entry.name}"
        try:
            if entry.is_dir():
                yield f"{path}/", (0, 0)  # an empty version folder counts
                yield from _files(entry.path, f"{path}/", above | {identity})
            else:
                found = entry.stat()
                yield path, (found.st_mtime_ns, found.st_size)
        except OSError:
            continue
