"""When the requests of an open loop are due, from its description and from the files that it names."""

import csv
from collections.abc import Iterable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from perf_client.errors import LoadError, data_error
from perf_client.loads import OpenLoad, RateBursts, RateRamp, RecordedTrace, RequestIntervals, RequestRate, VideoStreams
from perf_client.pacer import Offsets, arrivals, bursts, frames, ramp, repeated_gaps, replayed, scheduled, unit_counts

_FIELD = "timestamp"


def due_times(load: OpenLoad, seed: int) -> Iterator[Offsets]:
    """Blocks of due times in ns from the start, endless but for a trace's.

    Raises LoadError where a file can't be used.
    """
    match load:
        case RequestRate():
            times = arrivals(load, seed)
        case RateRamp():
            counts = unit_counts(load.arrival, seed, gamma_shape=load.gamma_shape)
            times = scheduled(counts, ramp(load.from_per_second, load.to_per_second, load.ramp_s))
        case RateBursts():
            counts = unit_counts(load.arrival, seed, gamma_shape=load.gamma_shape)
            pattern = bursts(load.base_per_second, load.burst_per_second, load.period_s, load.burst_s)
            times = scheduled(counts, pattern)
        case RequestIntervals():
            times = sped_up(repeated_gaps(read_gaps_ns(Path(load.path))), load.speed_ratio)
        case RecordedTrace():
            times = replayed(read_trace_ns(Path(load.path)), load.speed_ratio)
        case VideoStreams():
            times = (due_ns for due_ns, _ in frames(load.streams, load.frames_per_second))
    return times


def sped_up(blocks: Iterable[Offsets], ratio: float) -> Iterator[Offsets]:
    return (np.rint(block / ratio).astype(np.int64) for block in blocks)


def trace_span_s(load: RecordedTrace) -> float:
    """How long a trace lasts as it is played: from the first request to one mean gap after the last."""
    times = read_trace_ns(Path(load.path))
    between_ns = times[-1] - times[0]
    return float(between_ns + between_ns / max(len(times) - 1, 1)) / 1e9 / load.speed_ratio


def opening_rate(load: OpenLoad) -> float:
    """Requests per second that the first moment may bring, for the connections to open beforehand."""
    match load:
        case RequestRate():
            return load.per_second
        case RateRamp():
            return load.from_per_second
        case RateBursts():
            return load.burst_per_second
        case VideoStreams():
            return load.streams * load.frames_per_second
        case _:
            return 0.0


def read_gaps_ns(path: Path) -> list[int]:
    """A file of whole microseconds, one a line."""
    gaps = []
    for number, line in enumerate(_lines(path), start=1):
        text = line.strip()
        if not text:
            continue
        if not text.isascii() or not text.isdigit():
            raise data_error(f"{path}, line {number}: {text[:40]!r} is not a gap in whole microseconds")
        gaps.append(int(text) * 1000)
    if not any(gaps):
        raise data_error(f"{path} holds no gap above 0; write microseconds, one a line")
    return gaps


def read_trace_ns(path: Path) -> list[int]:
    """The recorded times of a CSV, JSONL or JSON file, which must not fall."""
    lines = _lines(path)
    start = next((line.lstrip()[:1] for line in lines if line.strip()), "")
    try:
        if path.suffix == ".jsonl" or (start == "{" and path.suffix != ".json"):
            entries = [msgspec.json.decode(line) for line in lines if line.strip()]
            found = [_milliseconds(path, f"line {at}", entry) for at, entry in enumerate(entries, start=1)]
        elif start == "{":
            found = list(_input_data_times(path, msgspec.json.decode("".join(lines))))
        else:
            found = list(_csv_times(path, lines))
    except msgspec.DecodeError as error:
        raise data_error(f"{path} is not JSON: {error}") from None
    if not found:
        raise data_error(f"{path} holds no recorded times")
    times = np.rint(np.asarray(found) * 1e6).astype(np.int64)
    falls = np.flatnonzero(np.diff(times) < 0)
    if len(falls):
        raise data_error(f"{path}: the times fall at entry {falls[0] + 2}; sort the file by {_FIELD}")
    return [int(at) for at in times]


def _input_data_times(path: Path, document: Any) -> Iterator[float]:
    data = document.get("data") if isinstance(document, dict) else None
    if not isinstance(data, list):
        raise data_error(f"{path} must hold an object with a list under 'data'")
    for at, entry in enumerate(data):
        for step in entry if isinstance(entry, list) else [entry]:
            yield _milliseconds(path, f"data[{at}]", step)


def _csv_times(path: Path, lines: list[str]) -> Iterator[float]:
    """With a header line, or one number a line without."""
    rows = csv.reader(StringIO("".join(lines)))
    column = 0
    for number, row in enumerate(rows, start=1):
        if not row:
            continue
        if number == 1 and _FIELD in [name.strip() for name in row]:
            column = [name.strip() for name in row].index(_FIELD)
            continue
        text = row[column] if column < len(row) else ""
        try:
            yield _finite(float(text))
        except ValueError:
            raise data_error(f"{path}, line {number}: {text[:40]!r} is not a {_FIELD} in ms") from None


def _milliseconds(path: Path, where: str, entry: Any) -> float:
    """A number, or as in recorded chats a list of one."""
    value = entry.get(_FIELD) if isinstance(entry, dict) else None
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    wrong: LoadError = data_error(f"{path}: {where} has no {_FIELD} in ms")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong
    return float(value)


def _finite(value: float) -> float:
    if not np.isfinite(value):
        raise ValueError(value)
    return value


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines(keepends=True)
    except OSError as error:
        raise data_error(f"{path} can't be read: {error.strerror}; name an existing file") from None
    except UnicodeDecodeError:
        raise data_error(f"{path} is not a text file") from None
