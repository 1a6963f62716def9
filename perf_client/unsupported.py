"""Flags of perf_analyzer that are refused, each with the reason or with what to write instead: none is ignored."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Refused:
    """``keeps`` are values that ask for what is done anyway, so they are taken. ``takes_value`` false: a switch."""

    flags: tuple[str, ...]
    instead: str
    takes_value: bool = True
    keeps: tuple[str, ...] = ()


_LATER = "it is not supported yet"
_TRACING = "tracing is the server's; set it there"
_IN_PROCESS = "the server is not run inside this process; start it and give its address with -u"
_NO_WINDOWS = (
    "no window is thrown away here; everything after the warm-up counts, and the verdict says if it was steady"
)

REFUSED: tuple[Refused, ...] = (
    Refused(("--stability-percentage", "-s"), f"{_NO_WINDOWS}; leave it out"),
    Refused(("--max-trials", "-r"), f"{_NO_WINDOWS}; use --duration to measure longer"),
    Refused(("--warmup-request-count",), "use --warmup SECONDS"),
    Refused(("--sync",), "no request waits for another one's answer here; leave it out", takes_value=False),
    Refused(("--max-threads",), "one event loop sends everything, so there are no threads to limit; leave it out"),
    Refused(
        ("--bls-composing-models",), "the statistics of models called by others are " + _LATER.replace("it is ", "")
    ),
    Refused(("--model-signature-name",), "TensorFlow Serving is not supported"),
    Refused(("--session-concurrency",), "chat sessions are not supported yet"),
    Refused(("--grpc-method",), "only the KServe v2 service is supported"),
    Refused(("--proto",), "only the KServe v2 service is supported"),
    Refused(("--triton-server-directory",), _IN_PROCESS),
    Refused(("--trace-level",), _TRACING, keeps=("OFF",)),
    Refused(("--trace-rate",), _TRACING),
    Refused(("--trace-count",), _TRACING),
    Refused(("--log-frequency",), _TRACING),
    Refused(("--enable-mpi",), "name all models with -m and share the load with --mix", takes_value=False),
    Refused(("-t",), "use --concurrency-range N"),
    Refused(("-c",), "use --concurrency-range START:END"),
    Refused(("-d",), "use --concurrency-range START:0 with --latency-threshold", takes_value=False),
    Refused(("-z",), "use --input-data zero", takes_value=False),
    Refused(("--data-directory",), "use --input-data DIRECTORY"),
)
