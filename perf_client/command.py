"""A checked command line: what to measure, and where the results go."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from perf_client.errors import usage_error
from perf_client.flags import make_parser
from perf_client.load_choice import choose_load, choose_mix, choose_sequences
from perf_client.loads import Load, RecordedTrace
from perf_client.metrics_flags import metrics_of
from perf_client.metrics_source import MetricsSource
from perf_client.profile import LoadProfile
from perf_client.request_flags import request_settings
from perf_client.sweep import Levels, Limit
from perf_client.tls import Tls
from perf_client.transport_flags import tls_of, transport_settings

DEFAULT_WINDOW_MS = 5000
DEFAULT_WINDOW_COUNT = 50


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
    tls: Tls | None = None
    metrics: MetricsSource | None = None


def parse(argv: Sequence[str]) -> Command | None:
    """None where the command is to be driven by jobs on stdin. Raises LoadError with a sentence."""
    given = make_parser().parse_args(argv)
    if given.jobs:
        return None
    if not given.models:
        raise usage_error("no model was named; give one with -m")
    load, levels = choose_load(given)
    _check(given, levels)
    limit = None
    if given.latency_threshold:
        limit = Limit(limit_ns=given.latency_threshold * 1e6, percent=given.percentile)
    url = given.url or ("localhost:8001" if given.protocol == "grpc" else "localhost:8000")
    return Command(
        url=url,
        profile=_profile(given, load),
        tls=tls_of(given),
        metrics=metrics_of(given, url),
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


def _profile(given: argparse.Namespace, load: Load) -> LoadProfile:
    count = given.request_count
    if not count and given.measurement_mode == "count_windows":
        count = given.measurement_request_count or DEFAULT_WINDOW_COUNT
    return LoadProfile(
        model=given.models[0],
        version=(given.versions or [""])[0],
        load=load,
        mix=choose_mix(given),
        sequences=choose_sequences(given),
        protocol=given.protocol,
        warmup_s=given.warmup,
        duration_s=_duration_s(given, load),
        request_count=count or None,
        timeout_s=given.timeout,
        seed=given.seed,
        **request_settings(given),
        **transport_settings(given),
    )


def _duration_s(given: argparse.Namespace, load: Load) -> float:
    """A trace is played to its end, everything else for the default time."""
    if given.duration:
        return float(given.duration)
    if given.measurement_interval:
        return float(given.measurement_interval / 1000)
    if isinstance(load, RecordedTrace):
        from perf_client.schedule import trace_span_s  # it brings numpy, which --help can do without

        return trace_span_s(load)
    return DEFAULT_WINDOW_MS / 1000
