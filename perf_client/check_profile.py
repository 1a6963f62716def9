"""What no server could be asked: a profile whose figures make no load."""

from collections.abc import Sequence

import msgspec

from perf_client.check_transport import check_transport
from perf_client.errors import usage_error
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
from perf_client.mix import MOST_MODELS
from perf_client.profile import LoadProfile
from perf_client.target import ModelDescription

_MOST_PER_SECOND = 1e9


def check_profile(profile: LoadProfile) -> None:
    """Raises LoadError with what to change."""
    _check_load(profile.load)
    if profile.request_count is not None and profile.request_count < 1:
        raise usage_error(f"a request count of {profile.request_count} measures nothing; use 1 or more")
    if profile.request_count is None and not profile.duration_s > 0:
        raise usage_error(f"a duration of {profile.duration_s:g} s measures nothing; use one above 0")
    if not profile.timeout_s > 0:
        raise usage_error(f"a timeout of {profile.timeout_s:g} s leaves no time for an answer; use one above 0")
    _check_sharing(profile)
    check_transport(profile)


def _check_load(load: Load) -> None:
    match load:
        case Concurrency(in_flight=count) if count < 1:
            raise usage_error(f"a concurrency of {count} sends nothing; use 1 or more")
        case PeriodicConcurrency() if load.start < 1 or load.end < load.start or load.step < 1 or load.period < 1:
            raise usage_error(f"{load.words}: all figures must be 1 or more, and the end not below the start")
        case RateRamp(ramp_s=span) | RateBursts(burst_s=span) if not span > 0:
            raise usage_error(f"{load.words}: the seconds must be above 0")
        case RateBursts() if load.period_s <= load.burst_s:
            raise usage_error(f"{load.words}: the period must be longer than the burst in it")
        case RequestIntervals(speed_ratio=ratio) | RecordedTrace(speed_ratio=ratio) if not ratio > 0:
            raise usage_error(f"a speed of {ratio:g} plays nothing; use one above 0")
        case VideoStreams() if load.streams < 1:
            raise usage_error(f"{load.streams} video streams send nothing; use 1 or more")
        case _:
            for rate in _rates(load):
                if not 0 < rate < _MOST_PER_SECOND:
                    raise usage_error(f"a request rate of {rate:g} per second can't be sent; use one above 0")
    cap = None if isinstance(load, Concurrency | PeriodicConcurrency) else load.max_in_flight
    if cap is not None and cap < 1:
        raise usage_error(f"a cap of {cap} requests in flight sends nothing; use 1 or more")


def _rates(load: Load) -> tuple[float, ...]:
    match load:
        case RequestRate():
            return (load.per_second,)
        case RateRamp():
            return load.from_per_second, load.to_per_second
        case RateBursts():
            return load.base_per_second, load.burst_per_second
        case VideoStreams():
            return (load.streams * load.frames_per_second,)
        case _:
            return ()


def _check_sharing(profile: LoadProfile) -> None:
    if len(profile.mix) == 1 or len(profile.mix) > MOST_MODELS:
        raise usage_error(f"a load is shared by 2 to {MOST_MODELS} models, not by {len(profile.mix)}")
    if profile.mix and (profile.mix[0].model, profile.mix[0].version) != (profile.model, profile.version):
        raise usage_error(f"the first of the models that share a load is {profile.mix[0].model}, not {profile.model}")
    for share in profile.mix:
        if not 0 < share.weight < float("inf"):
            raise usage_error(f"model {share.model} has the weight {share.weight:g}; use one above 0")
    if profile.mix and profile.shared_memory != "none":
        raise usage_error("several models can't share a load from shared memory; leave out --shared-memory")
    if profile.sequences is None:
        return
    if profile.mix:
        raise usage_error("several models can't share a load of sequences; measure one model at a time")
    if profile.batch_size != 1:
        raise usage_error(f"sequences have one row a request; use batch size 1, not {profile.batch_size}")
    if profile.compression != "none":
        raise usage_error("sequences can't be compressed, their ids are put in when they are sent; leave it out")


def with_sequences(profile: LoadProfile, models: Sequence[ModelDescription]) -> LoadProfile:
    """The profile with the default sequences where its model takes nothing else."""
    sequential = next((model.name for model in models if model.sequential), None)
    if sequential is None or profile.sequences is not None:
        return profile
    if profile.mix:
        raise usage_error(f"model {sequential} wants sequences, so it can't share a load; measure it by itself")
    profile = msgspec.structs.replace(profile, sequences=Sequences())
    check_profile(profile)
    return profile
