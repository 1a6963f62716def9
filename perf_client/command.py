"""A checked command line: what to measure, and where the results go."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from perf_client.errors import usage_error
from perf_client.flags import make_parser
from perf_client.profile import Concurrency, LoadProfile, RequestRate
from perf_client.sweep import Levels, Limit

DEFAULT_WINDOW_MS = 5000
DEFAULT_WINDOW_COUNT = 50
UNSET_RANGE = "1:1:1"


@dataclass(frozen=True, slots=True)
class Command:
    """What to measure and where the results go. The profile is a template: its level is replaced."""

    url: str
    profile: LoadProfile
    levels: Levels
    bisect: bool = False
    limit: Limit | None = None
    percent: float | None = None
    verbose: bool = False
    verbose_csv: bool = False
    csv: Path | None = None
    export: Path | None = None
    result_dir: Path | None = None


def parse(argv: Sequence[str]) -> Command | None:
    """None where the command is to be driven by jobs on stdin. Raises LoadError with a sentence."""
    given = make_parser().parse_args(argv)
    if given.jobs:
        return None
    if not given.model:
        raise usage_error("no model was named; give one with -m")
    levels = _levels(given)
    _check(given, levels)
    limit = None
    if given.latency_threshold:
        limit = Limit(limit_ns=given.latency_threshold * 1e6, percent=given.percentile)
    return Command(
        url=given.url or ("localhost:8001" if given.protocol == "grpc" else "localhost:8000"),
        profile=_profile(given, levels),
        levels=levels,
        bisect=given.binary_search,
        limit=limit,
        percent=given.percentile,
        verbose=given.verbose,
        verbose_csv=given.verbose_csv,
        csv=given.csv,
        export=given.profile_export_file,
        result_dir=given.result_dir,
    )


def _levels(given: argparse.Namespace) -> Levels:
    if given.concurrency_range and given.request_rate_range:
        raise usage_error("--concurrency-range and --request-rate-range exclude each other; give one")
    if given.request_rate_range:
        return _range("--request-rate-range", given.request_rate_range, float)
    return _range("--concurrency-range", given.concurrency_range or UNSET_RANGE, int)


def _range(flag: str, text: str, kind: type[int] | type[float]) -> Levels:
    """``start[:end[:step]]``; an end of 0 is open."""
    kind_name = "whole numbers" if kind is int else "numbers"
    parts = text.split(":")
    try:
        start, *rest = (kind(part) for part in parts)
    except ValueError:
        start, rest = kind(0), []
    if not start or not all(isfinite(part) for part in (start, *rest)):
        raise usage_error(f"{flag} {text}: not START:END:STEP in {kind_name} above 0")
    if len(parts) > 3:
        raise usage_error(f"{flag} {text}: more than START:END:STEP")
    end = rest[0] if rest else start
    step = rest[1] if len(rest) > 1 else kind(1)
    if start <= 0 or step <= 0 or end < 0:
        raise usage_error(f"{flag} {text}: START and STEP must be above 0, END too or 0 for none")
    if end and end < start:
        raise usage_error(f"{flag} {text}: END lies before START; write {end:g}:{start:g}")
    return Levels(
        "concurrency" if kind is int else "request_rate", float(start), float(end) if end else None, float(step)
    )


def _check(given: argparse.Namespace, levels: Levels) -> None:
    limited = bool(given.latency_threshold)
    if levels.end is None and not limited:
        raise usage_error("a range with END 0 goes on until a latency limit; give one with --latency-threshold")
    if given.binary_search and (not limited or levels.end is None):
        raise usage_error("--binary-search needs --latency-threshold and a range with an END above 0")
    if given.duration and given.measurement_interval:
        raise usage_error("--duration and --measurement-interval say the same; give one")
    if given.measurement_request_count and given.measurement_mode != "count_windows":
        raise usage_error("--measurement-request-count needs --measurement-mode count_windows; or use --request-count")
    if given.request_count and given.request_count < (levels.end or levels.start):
        raise usage_error(f"--request-count {given.request_count} is below the load of {levels.end or levels.start:g}")
    if levels.mode == "concurrency" and given.request_distribution != "constant":
        raise usage_error("--request-distribution needs --request-rate-range")
    if levels.mode == "concurrency" and given.max_in_flight:
        raise usage_error("--max-in-flight needs --request-rate-range; with --concurrency-range the level is the cap")
    if given.gamma_shape and given.request_distribution != "gamma":
        raise usage_error("--gamma-shape needs --request-distribution gamma")
    if len(given.input_data or ()) > 1:
        raise usage_error("--input-data is given twice, which is not supported yet; put all data into one file")


def _profile(given: argparse.Namespace, levels: Levels) -> LoadProfile:
    load: Concurrency | RequestRate = Concurrency(in_flight=int(levels.start))
    if levels.mode == "request_rate":
        load = RequestRate(
            per_second=levels.start,
            arrival=given.request_distribution,
            gamma_shape=given.gamma_shape or 1.0,
            max_in_flight=given.max_in_flight,
        )
    window_ms = given.measurement_interval or DEFAULT_WINDOW_MS
    count = given.request_count
    if not count and given.measurement_mode == "count_windows":
        count = given.measurement_request_count or DEFAULT_WINDOW_COUNT
    return LoadProfile(
        model=given.model,
        version=given.version,
        load=load,
        protocol=given.protocol,
        batch_size=given.batch_size,
        input_data=(given.input_data or ["random"])[0],
        shapes=dict(given.shape or ()),
        string_length=given.string_length,
        warmup_s=given.warmup,
        duration_s=given.duration or window_ms / 1000,
        request_count=count or None,
        timeout_s=given.timeout,
        seed=given.seed,
    )
