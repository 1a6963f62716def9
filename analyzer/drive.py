"""The load generator as a child process that measures one load profile after another."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from analyzer import child
from analyzer.domain.record import Record
from analyzer.errors import ChildError, InputError
from perf_client.profile import LoadProfile, LoadResult

STOP_TIMEOUT_S = 5.0


class LoadRefusedError(Exception):
    """The load generator could not apply this load; the message is its sentence."""


class _Job(Record, frozen=True):
    profile: LoadProfile
    url: str
    columns: str | None


class _Answer(msgspec.Struct, frozen=True):
    result: LoadResult | None = None
    error: str = ""
    kind: str = ""


class Driver:
    """Sends jobs to a running load generator, one JSON line each way."""

    def __init__(self, process: "subprocess.Popen[str]", log_path: Path) -> None:
        self._process = process
        self._log_path = log_path

    def run(self, profile: LoadProfile, url: str, columns: Path | None) -> LoadResult:
        """Apply ``profile`` to the server at ``url`` (``host:port``); request times go to ``columns``.

        Raises:
            LoadRefusedError: the server can't be driven with this load.
            InputError: the input data or shapes don't fit the model, whatever the configuration.
            ChildError: the load generator died.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        job = _Job(profile=profile, url=url, columns=None if columns is None else str(columns))
        try:
            self._process.stdin.write(msgspec.json.encode(job).decode() + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
            answer = msgspec.json.decode(line, type=_Answer)
        except (OSError, msgspec.DecodeError) as error:
            words = child.last_words(self._log_path)
            raise ChildError(
                "the load generator died: " + (words.splitlines() or ["no word why"])[-1], words
            ) from error
        if answer.result is None:
            raise LoadRefusedError(answer.error) if answer.kind == "server" else InputError(answer.error)
        return answer.result


@contextmanager
def driver(log_path: Path) -> Iterator[Driver]:
    """A load generator for as long as the context lasts; its stderr goes to ``log_path``."""
    process = child.start("perf_client", ["--jobs"], log_path)
    try:
        yield Driver(process, log_path)
    finally:
        child.stop(process, STOP_TIMEOUT_S)
