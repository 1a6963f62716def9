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
_SEQUENCES = "sequences of requests are not supported yet"
_TLS = "TLS is not supported yet; give the address of a plain HTTP or gRPC port"
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
        ("--service-kind",), "only triton, any KServe v2 server over the network, is supported yet", keeps=("triton",)
    ),
    Refused(("--endpoint",), "only the inference endpoint of KServe v2 is supported yet"),
    Refused(
        ("--bls-composing-models",), "the statistics of models called by others are " + _LATER.replace("it is ", "")
    ),
    Refused(("--model-signature-name",), "TensorFlow Serving is not supported"),
    Refused(("--periodic-concurrency-range",), f"{_LATER}; use --concurrency-range"),
    Refused(("--request-period",), "it belongs to --periodic-concurrency-range, which is not supported yet"),
    Refused(("--request-parameter",), _LATER),
    Refused(("--session-concurrency",), "chat sessions are not supported yet"),
    Refused(("--request-intervals",), f"{_LATER}; use --request-rate-range with --request-distribution"),
    Refused(("--fixed-schedule",), f"{_LATER}; use --request-rate-range", takes_value=False),
    Refused(("--num-of-sequences",), _SEQUENCES),
    Refused(("--sequence-length",), _SEQUENCES),
    Refused(("--sequence-length-variation",), _SEQUENCES),
    Refused(("--sequence-id-range",), _SEQUENCES),
    Refused(("--serial-sequences",), _SEQUENCES, takes_value=False),
    Refused(("--string-data",), f"{_LATER}; use --input-data with a JSON file"),
    Refused(("--shared-memory",), "shared memory is not supported yet; leave it out", keeps=("none",)),
    Refused(("--output-shared-memory-size",), "shared memory is not supported yet"),
    Refused(("--input-tensor-format",), "tensors are sent in binary; leave it out", keeps=("binary",)),
    Refused(("--output-tensor-format",), "tensors are asked for in binary; leave it out", keeps=("binary",)),
    Refused(("--streaming",), "gRPC streaming is not supported yet", takes_value=False),
    Refused(("--grpc-compression-algorithm",), "compression is not supported yet", keeps=("none",)),
    Refused(("--grpc-method",), "only the KServe v2 service is supported"),
    Refused(("--proto",), "only the KServe v2 service is supported"),
    Refused(("-H",), "extra headers are not supported yet"),
    Refused(("--ssl-grpc-use-ssl",), _TLS, takes_value=False),
    *(
        Refused((f"--ssl-grpc-{name}-file",), _TLS)
        for name in ("root-certifications", "private-key", "certificate-chain")
    ),
    *(
        Refused((f"--ssl-https-{name}",), _TLS)
        for name in (
            "verify-peer",
            "verify-host",
            "ca-certificates-file",
            "client-certificate-file",
            "client-certificate-type",
            "private-key-file",
            "private-key-type",
        )
    ),
    Refused(("--triton-server-directory",), _IN_PROCESS),
    Refused(("--model-repository",), _IN_PROCESS),
    Refused(("--collect-metrics",), "server metrics are not supported yet", takes_value=False),
    Refused(("--metrics-url",), "server metrics are not supported yet"),
    Refused(("--metrics-interval",), "server metrics are not supported yet"),
    Refused(("--trace-level",), _TRACING, keeps=("OFF",)),
    Refused(("--trace-rate",), _TRACING),
    Refused(("--trace-count",), _TRACING),
    Refused(("--log-frequency",), _TRACING),
    Refused(("--enable-mpi",), "run one perf-client for each model and start them together", takes_value=False),
    Refused(("-t",), "use --concurrency-range N"),
    Refused(("-c",), "use --concurrency-range START:END"),
    Refused(("-d",), "use --concurrency-range START:0 with --latency-threshold", takes_value=False),
    Refused(("-z",), "use --input-data zero", takes_value=False),
    Refused(("--data-directory",), "use --input-data DIRECTORY"),
)
