"""Traces to files of Triton's form: JSON arrays, one file in all or one with a number for each part."""

import logging
from pathlib import Path

log = logging.getLogger(__name__)


class TraceFile:
    """Written on the event loop's thread: who traces every request pays for it. What can't be written is lost."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._parts = 0
        self._is_begun = False
        self._has_failed = False

    def append(self, entries: bytes) -> None:
        """Adds entries (JSON, joined by commas) to the file, which is a whole array before and after."""
        try:
            if not self._is_begun:
                Path(self.path).write_bytes(b"[" + entries + b"]")
            else:
                with Path(self.path).open("r+b") as file:
                    file.seek(-1, 2)
                    file.write(b"," + entries + b"]")
            self._is_begun = True
        except OSError as error:
            self._lose(error)

    def write_part(self, entries: bytes) -> None:
        """The next file with a number: ``trace.json.0`` and so on."""
        part, self._parts = self._parts, self._parts + 1
        try:
            Path(f"{self.path}.{part}").write_bytes(b"[" + entries + b"]")
        except OSError as error:
            self._lose(error)

    def _lose(self, error: OSError) -> None:
        if not self._has_failed:
            self._has_failed = True
            log.error("traces can't be written to '%s' and are lost: %s", self.path, error)
