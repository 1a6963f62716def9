"""Files that travel to machines without a file system in common: packed whole, named by content, unpacked once each."""

import hashlib
import io
import shutil
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Parcel:
    """A file or folder called ``name``. ``content`` is where its bytes are, in whatever way they travel."""

    name: str
    digest: str
    content: Any


def packed(path: Path) -> tuple[str, NDArray[np.uint8]]:
    """The digest and the bytes of a file or folder; what links point to is packed in their place."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", dereference=True) as archive:
        archive.add(path, arcname=path.name, filter=_timeless)
    content = np.frombuffer(buffer.getbuffer(), dtype=np.uint8)
    return hashlib.sha256(content.data).hexdigest()[:16], content


def _timeless(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Without owner and times, so that equal files are equal parcels; without compiled leftovers."""
    if "__pycache__" in Path(entry.name).parts:
        return None
    entry.mtime = entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


def unpacked(digest: str, content: NDArray[np.uint8], folder: Path) -> Path:
    """The folder that holds the parcel's file or folder. It appears whole or not at all, whoever else unpacks it."""
    place = folder / digest
    if not place.is_dir():
        scratch = Path(tempfile.mkdtemp(dir=folder, prefix=".unpacking-"))
        with tarfile.open(fileobj=io.BytesIO(content.data), mode="r") as archive:
            archive.extractall(scratch, filter="data")
        try:
            scratch.rename(place)
        except OSError:  # another was faster
            shutil.rmtree(scratch)
    return place
