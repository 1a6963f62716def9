"""The options that say what load to apply, and a load written back as these options."""

from typing import Any

from perf_client import values
from perf_client.loads import (
    Concurrency,
    Load,
    PeriodicConcurrency,
    RateBursts,
    RateRamp,
    RecordedTrace,
    RequestIntervals,
    RequestRate,
    VideoStreams,
)


def add_load(group: Any) -> None:
    """Every kind of load; one may be given."""
    group.add_argument(
        "--concurrency-range", metavar="START:END:STEP", help="requests kept in flight, closed loop; default 1:1:1"
    )
    group.add_argument(
        "--periodic-concurrency-range",
        metavar="START:END:STEP",
        help="closed loop that grows by STEP after each --request-period answers",
    )
    group.add_argument(
        "--request-period", metavar="N", type=values.whole_number(1), help="answers before the next step; default 10"
    )
    group.add_argument(
        "--request-rate-range", metavar="START:END:STEP", help="requests per second, open loop; END 0 needs -l"
    )
    group.add_argument(
        "--request-rate-ramp", metavar="FROM:TO:S", help="a rate that goes from one value to the other within S seconds"
    )
    group.add_argument(
        "--request-rate-bursts",
        metavar="BASE:BURST:EVERY:FOR",
        help="a base rate; every so many seconds a burst's rate for so many",
    )
    group.add_argument("--request-intervals", metavar="FILE", help="gaps in microseconds, one a line, looped")
    group.add_argument(
        "--trace", metavar="FILE", help="recorded times: CSV, JSONL or JSON with a 'timestamp' in ms, played once"
    )
    group.add_argument(
        "--fixed-schedule", action="store_true", help="the same, by the timestamps in the JSON file of --input-data"
    )
    group.add_argument(
        "--trace-speed", metavar="X", type=values.number(above=0), help="play recorded times X times as fast"
    )
    group.add_argument("--streams", metavar="START:END:STEP", help="video streams, each of --fps frames per second")
    group.add_argument("--fps", metavar="F", type=values.number(above=0), help="frames per second of a stream")
    group.add_argument(
        "--deadline", metavar="MS", type=values.number(above=0), help="a later frame is late; default: one frame's time"
    )
    group.add_argument(
        "--request-distribution",
        choices=("constant", "poisson", "gamma"),
        default="constant",
        help="arrivals of a request rate, ramp or bursts; default constant",
    )
    group.add_argument(
        "--gamma-shape", metavar="K", type=values.number(above=0), help="gamma arrivals: 1 is Poisson, below 1 burstier"
    )
    group.add_argument(
        "--max-in-flight", metavar="N", type=values.whole_number(1), help="open loop: drop and count what comes above N"
    )
    group.add_argument(
        "--latency-threshold", "-l", metavar="MS", type=values.number(least=0), help="go no further above this latency"
    )
    group.add_argument("--binary-search", action="store_true", help="bisect the range for -l; STEP is the precision")
    group.add_argument("--mix", metavar="W1:W2", help="shares of several models (-m repeated); default: equal")
    group.add_argument(
        "--seed", metavar="N", type=values.whole_number(0), default=0, help="of arrivals and random data; default 0"
    )


def add_sequences(group: Any) -> None:
    """Sequences are sent to models that want them, and where one of these options is given."""
    group.add_argument(
        "--sequence-length",
        metavar="N",
        type=values.whole_number(1),
        help="requests of a sequence; default: its stream of input data, else 20",
    )
    group.add_argument(
        "--sequence-length-variation",
        metavar="PERCENT",
        type=values.number(least=0, below=100),
        help="lengths differ by so much both ways; default 20",
    )
    group.add_argument(
        "--sequence-id-range", metavar="START:END", help="ids from START to END, END excluded; default 1 on"
    )
    group.add_argument(
        "--num-of-sequences",
        metavar="N",
        type=values.whole_number(1),
        help="open loop: sequences alive at a time; default 4",
    )
    group.add_argument(
        "--serial-sequences",
        action="store_true",
        help="taken: a sequence never has more than one request in flight",
    )


def as_flags(load: Load) -> list[str]:
    """The options that give this load."""
    words = _kind(load)
    if isinstance(load, RequestRate | RateRamp | RateBursts):
        words += ["--request-distribution", load.arrival]
        words += ["--gamma-shape", f"{load.gamma_shape:.10g}"] if load.arrival == "gamma" else []
    if isinstance(load, RequestIntervals | RecordedTrace) and load.speed_ratio != 1.0:
        words += ["--trace-speed", f"{load.speed_ratio:.10g}"]
    if not isinstance(load, Concurrency | PeriodicConcurrency) and load.max_in_flight is not None:
        words += ["--max-in-flight", str(load.max_in_flight)]
    return words


def _kind(load: Load) -> list[str]:
    match load:
        case Concurrency():
            words = ["--concurrency-range", str(load.in_flight)]
        case PeriodicConcurrency():
            words = ["--periodic-concurrency-range", f"{load.start}:{load.end}:{load.step}"]
            words += ["--request-period", str(load.period)]
        case RequestRate():
            words = ["--request-rate-range", f"{load.per_second:.10g}"]
        case RateRamp():
            rates = f"{load.from_per_second:.10g}:{load.to_per_second:.10g}"
            words = ["--request-rate-ramp", f"{rates}:{load.ramp_s:.10g}"]
        case RateBursts():
            rates = f"{load.base_per_second:.10g}:{load.burst_per_second:.10g}"
            words = ["--request-rate-bursts", f"{rates}:{load.period_s:.10g}:{load.burst_s:.10g}"]
        case RequestIntervals():
            words = ["--request-intervals", load.path]
        case RecordedTrace():
            words = ["--trace", load.path]
        case VideoStreams():
            words = ["--streams", str(load.streams), "--fps", f"{load.frames_per_second:.10g}"]
            words += [] if load.deadline_ms is None else ["--deadline", f"{load.deadline_ms:.10g}"]
    return words
