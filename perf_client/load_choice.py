"""The options about the load, checked against each other, to the load of a run and the levels to measure it at."""

import argparse
from math import isfinite

from perf_client.errors import LoadError, usage_error
from perf_client.loads import (
    Concurrency,
    Load,
    PeriodicConcurrency,
    RateBursts,
    RateRamp,
    RecordedTrace,
    RequestIntervals,
    RequestRate,
    Sequences,
    VideoStreams,
)
from perf_client.profile import ModelShare
from perf_client.sweep import Levels

_KINDS = (
    "--concurrency-range",
    "--periodic-concurrency-range",
    "--request-rate-range",
    "--request-rate-ramp",
    "--request-rate-bursts",
    "--request-intervals",
    "--trace",
    "--fixed-schedule",
    "--streams",
)
_RATES = ("--request-rate-range", "--request-rate-ramp", "--request-rate-bursts")
_FILES = ("--request-intervals", "--trace", "--fixed-schedule")
_CLOSED = ("--concurrency-range", "--periodic-concurrency-range")
_LAST_ID = 2**62
_FIXED = Levels("fixed", 1.0, 1.0, 1.0)


def choose_load(given: argparse.Namespace) -> tuple[Load, Levels]:
    """Raises LoadError where two kinds are given, or an option that goes with another kind."""
    chosen = [flag for flag in _KINDS if _value(given, flag)]
    if len(chosen) > 1:
        raise usage_error(f"{chosen[0]} and {chosen[1]} exclude each other; give one")
    kind = chosen[0] if chosen else "--concurrency-range"
    _check_companions(given, kind)
    match kind:
        case "--request-rate-range":
            levels = read_range(kind, given.request_rate_range, "request_rate")
        case "--streams":
            levels = read_range(kind, given.streams, "streams")
        case "--concurrency-range":
            levels = read_range(kind, given.concurrency_range or "1", "concurrency")
        case _:
            levels = _FIXED
    return _load(kind, given, levels), levels


def _load(kind: str, given: argparse.Namespace, levels: Levels) -> Load:
    cap = given.max_in_flight
    arrival = {"arrival": given.request_distribution, "gamma_shape": given.gamma_shape or 1.0, "max_in_flight": cap}
    speed = given.trace_speed or 1.0
    match kind:
        case "--concurrency-range":
            return Concurrency(in_flight=int(levels.start))
        case "--request-rate-range":
            return RequestRate(per_second=levels.start, **arrival)
        case "--request-rate-ramp":
            start, end, ramp_s = _numbers(kind, given.request_rate_ramp, "FROM:TO:S")
            load: Load = RateRamp(from_per_second=start, to_per_second=end, ramp_s=ramp_s, **arrival)
        case "--request-rate-bursts":
            load = _bursts(kind, given.request_rate_bursts, arrival)
        case "--periodic-concurrency-range":
            load = _periodic(kind, given)
        case "--request-intervals":
            load = RequestIntervals(path=given.request_intervals, speed_ratio=speed, max_in_flight=cap)
        case "--streams":
            load = VideoStreams(
                streams=int(levels.start), frames_per_second=given.fps, deadline_ms=given.deadline, max_in_flight=cap
            )
        case _:
            path = given.trace or (given.input_data or [""])[0]
            load = RecordedTrace(path=path, speed_ratio=speed, max_in_flight=cap)
    return load


def _bursts(flag: str, text: str, arrival: dict[str, object]) -> Load:
    base, burst, period_s, burst_s = _numbers(flag, text, "BASE:BURST:EVERY:FOR")
    if burst_s >= period_s:
        raise usage_error(f"{flag} {text}: a burst of {burst_s:g} s leaves nothing of a period of {period_s:g} s")
    made = {"base_per_second": base, "burst_per_second": burst, "period_s": period_s, "burst_s": burst_s}
    return RateBursts(**made, **arrival)  # type: ignore[arg-type]  # checked by the record's reader and its tests


def _periodic(flag: str, given: argparse.Namespace) -> Load:
    levels = read_range(flag, given.periodic_concurrency_range, "concurrency")
    if levels.end is None:
        raise usage_error(f"{flag} {given.periodic_concurrency_range}: END must be above 0, it is where the rise stops")
    return PeriodicConcurrency(
        start=int(levels.start), end=int(levels.end), step=int(levels.step), period=given.request_period or 10
    )


def _check_companions(given: argparse.Namespace, kind: str) -> None:
    """Options that say more about one kind of load are an error beside another: they would do nothing."""
    rules = (
        ("--request-distribution", given.request_distribution != "constant", _RATES),
        ("--gamma-shape", given.gamma_shape, _RATES),
        ("--request-period", given.request_period, ("--periodic-concurrency-range",)),
        ("--trace-speed", given.trace_speed, _FILES),
        ("--fps", given.fps, ("--streams",)),
        ("--deadline", given.deadline, ("--streams",)),
        ("--num-of-sequences", given.num_of_sequences, tuple(flag for flag in _KINDS if flag not in _CLOSED)),
    )
    for flag, present, kinds in rules:
        if present and kind not in kinds:
            raise usage_error(f"{flag} needs {' or '.join(kinds)}")
    if given.gamma_shape and given.request_distribution != "gamma":
        raise usage_error("--gamma-shape needs --request-distribution gamma")
    if given.max_in_flight and kind in _CLOSED:
        raise usage_error(f"--max-in-flight needs an open loop such as --request-rate-range; with {kind} it is the cap")
    if given.streams and not given.fps:
        raise usage_error("--streams needs --fps, the frames per second of each stream")
    if given.fixed_schedule and not (given.input_data or [""])[0].endswith(".json"):
        raise usage_error("--fixed-schedule needs --input-data with a JSON file whose entries have a timestamp")


def _value(given: argparse.Namespace, flag: str) -> object:
    return getattr(given, flag.removeprefix("--").replace("-", "_"))


def read_range(flag: str, text: str, mode: str) -> Levels:
    """``start[:end[:step]]``; an end of 0 is open."""
    kind: type[int] | type[float] = float if mode == "request_rate" else int
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
    return Levels(mode, float(start), float(end) if end else None, float(step))  # type: ignore[arg-type]  # see callers


def _numbers(flag: str, text: str, form: str) -> list[float]:
    try:
        found = [float(part) for part in text.split(":")]
    except ValueError:
        found = []
    if len(found) != form.count(":") + 1 or not all(isfinite(value) and value > 0 for value in found):
        raise usage_error(f"{flag} {text}: not {form} in numbers above 0")
    return found


def choose_mix(given: argparse.Namespace) -> tuple[ModelShare, ...]:
    """Empty where one model has the load for itself."""
    models, versions = given.models, given.versions or [""]
    if len(versions) not in (1, len(models)):
        raise usage_error(f"-x is given {len(versions)} times for {len(models)} models; give it once, or once a model")
    if len(models) == 1:
        if given.mix:
            raise usage_error("--mix shares a load between models; name them all with -m")
        return ()
    if len(set(models)) < len(models) and len(set(zip(models, versions * len(models)))) < len(models):
        raise usage_error("a model is named twice with -m; use --mix to give it a larger share")
    weights = _numbers("--mix", given.mix, ":".join(["W"] * len(models))) if given.mix else [1.0] * len(models)
    versions = versions * len(models) if len(versions) == 1 else versions
    return tuple(
        ModelShare(model=model, version=version, weight=weight)
        for model, version, weight in zip(models, versions, weights)
    )


def choose_sequences(given: argparse.Namespace) -> Sequences | None:
    """None where nothing was said of sequences: then the model decides."""
    length, variation, parallel = given.sequence_length, given.sequence_length_variation, given.num_of_sequences
    said = (length, variation, parallel, given.sequence_id_range)
    if not given.serial_sequences and all(value is None for value in said):
        return None
    if given.batch_size != 1:
        raise usage_error(f"sequences have one row a request; use -b 1, not {given.batch_size}")
    id_from, id_to = _id_range(given.sequence_id_range) if given.sequence_id_range else (1, None)
    return Sequences(
        length=length,
        length_variation_percent=20.0 if variation is None else variation,
        id_from=id_from,
        id_to=id_to,
        parallel=parallel or 4,
    )


def _id_range(text: str) -> tuple[int, int | None]:
    start, _, end = text.partition(":")
    bad: LoadError = usage_error(f"--sequence-id-range {text}: not START:END in whole numbers above 0, END above START")
    try:
        found = int(start), int(end) if end else None
    except ValueError:
        raise bad from None
    if found[0] < 1 or (found[1] is not None and not found[0] < found[1] <= _LAST_ID):
        raise bad
    return found
