"""Which libraries this process has loaded, and from where."""

from collections.abc import Iterator
from pathlib import Path


def mapped(name: str) -> list[str]:
    """The files of a library, by the beginning of its name, that the process has mapped, each once."""
    return list(dict.fromkeys(file for _, file in _mappings() if f"/{name}" in file))


def file_at(address: int) -> str:
    """The file that lies at an address; empty where there is none."""
    return next((file for place, file in _mappings() if address in place), "")


def _mappings() -> Iterator[tuple[range, str]]:
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        place, *_, file = line.split(maxsplit=5)
        if file.startswith("/"):
            first, end = place.split("-")
            yield range(int(first, 16), int(end, 16)), file
