"""Symbolic links of a model's folder, judged before its files are read: where do they lead?"""

import os
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from analyzer.runtime.backends.base import ModelError


def refuse_links_out(folder: Path, name: str, homes: Sequence[Path]) -> None:
    """Raises ModelError for a link within the folder ``name``, or that folder itself, that leads to none of ``homes``.

    Links are common in repositories (versions that share a file, volumes of Kubernetes), and mostly stay inside. One
    that leaves may show a client what its server can read: labels, initial states and the words of parsers come out.
    """
    top = folder / name
    allowed = [os.path.realpath(home) for home in homes]
    for path in chain((str(top),), _links(str(top), set())):
        target = os.path.realpath(path)
        if not any(target == home or target.startswith(home.rstrip("/") + "/") for home in allowed):
            link = os.path.relpath(path, folder)
            raise ModelError(
                f"the link '{link}' leads out of the model repository; allow where to with --allow-links-to"
            )


def _links(folder: str, seen: set[tuple[int, int]]) -> Iterator[str]:
    """Those in the folder, and in what its links lead to; each folder is looked into once."""
    own = Path(folder).stat()
    if (own.st_dev, own.st_ino) in seen:
        return
    seen.add((own.st_dev, own.st_ino))
    with os.scandir(folder) as listed:
        entries = list(listed)
    for entry in entries:
        if entry.is_symlink():
            yield entry.path  # judged before anything behind it is looked at
        if entry.is_dir():
            yield from _links(entry.path, seen)
