"""Results to files: the CSV, the per-request JSON in perf_analyzer's form, and our own result files."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from perf_client.errors import usage_error
from perf_client.profile import Concurrency, LoadResult
from perf_client.record import NEVER, OK, Columns
from perf_client.version import __version__

_CHUNK = 1000


def level_name(result: LoadResult) -> str:
    """Stem of a level's files: ``concurrency_4``, ``request_rate_99.5``, ``video_streams_8``."""
    load = result.profile.load
    return f"{load.mode}_{load.level:g}"


def write_result(folder: Path, result: LoadResult, columns: Columns) -> Path:
    """One level: what was found (``.json``) and the times of every request (``.npz``), overwriting a former run's."""
    path = folder / f"{level_name(result)}.json"
    columns.save(path.with_suffix(".npz"))
    path.write_bytes(msgspec.json.format(msgspec.json.encode(result)) + b"\n")
    return path


def write_requests(path: Path, levels: Sequence[tuple[LoadResult, Columns]]) -> None:
    """perf_analyzer's ``--profile-export-file``. Tensors are left out; ``scheduled_timestamp``, ``error`` are ours."""
    with path.open("wb") as file:
        file.write(b'{"experiments":[')
        for index, (result, columns) in enumerate(levels):
            file.write(b"," if index else b"")
            for part in _experiment(result, columns):
                file.write(part)
        profile = levels[0][0].profile if levels else None
        rest = {
            "version": __version__,
            "service_kind": profile.service if profile else "triton",
            "endpoint": profile.endpoint if profile else "",
        }
        file.write(b"]," + msgspec.json.encode(rest)[1:] + b"\n")


def _experiment(result: LoadResult, columns: Columns) -> Iterator[bytes]:
    """In parts, so that ten million requests need not be in memory as objects at once."""
    load = result.profile.load
    level = {"mode": load.mode, "value": load.in_flight if isinstance(load, Concurrency) else load.level}
    yield b'{"experiment":' + msgspec.json.encode(level) + b',"requests":['
    answered = _answer_times(columns)
    for at in range(0, len(columns), _CHUNK):
        chunk = range(at, min(at + _CHUNK, len(columns)))
        rows = [_request(row, columns, answered(row), result.started_unix_ns) for row in chunk]
        yield (b"," if at else b"") + msgspec.json.encode(rows)[1:-1]
    bounds = [result.started_unix_ns + result.counted_from_ns, result.started_unix_ns + result.counted_to_ns]
    yield b'],"window_boundaries":' + msgspec.json.encode(bounds) + b"}"


def _answer_times(columns: Columns) -> Callable[[int], list[int]]:
    """When the answers of a row came."""
    answers = columns.answers
    if answers is None:
        return lambda row: [int(columns.last_byte_ns[row])]
    ends = answers.count.cumsum()
    return lambda row: answers.at_ns[ends[row] - answers.count[row] : ends[row]].tolist()


def _request(row: int, columns: Columns, answered_ns: Sequence[int], zero_unix_ns: int) -> dict[str, Any]:
    scheduled, sent = int(columns.scheduled_ns[row]), int(columns.sent_ns[row])
    failure = int(columns.failure[row])
    request = {
        "timestamp": zero_unix_ns + (scheduled if sent == NEVER else sent),
        "request_inputs": {},
        "response_timestamps": [zero_unix_ns + at_ns for at_ns in answered_ns] if failure == OK else [],
        "response_outputs": [{} for _ in answered_ns] if failure == OK else [],
        "scheduled_timestamp": zero_unix_ns + scheduled,
    }
    return request if failure == OK else {**request, "error": columns.failure_names[failure]}


def check_writable(*files: Path | None, folder: Path | None = None) -> None:
    """Before anything is measured, so that no result is lost for a folder that isn't there. Makes ``folder``."""
    for path in files:
        if path and (path.is_dir() or not path.parent.is_dir()):
            raise usage_error(f"{path} can't be written; name a file in an existing folder")
    try:
        if folder:
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise usage_error(f"{folder} can't be made ({error.strerror}); name another folder") from None
