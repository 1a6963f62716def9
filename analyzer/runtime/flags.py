"""The runtime's command-line flags, in the groups of its help. Their defaults are those of ``ServerOptions``."""

from collections.abc import Callable

from analyzer.runtime.flag_values import (
    boolean,
    cache_bytes,
    milliseconds,
    port,
    port_or_off,
    positive,
    resource,
    seconds,
    span_rows,
    trace_setting,
    whole,
)
from analyzer.runtime.log_settings import FORMATS
from analyzer.runtime.metrics_config import metrics_setting


def add_models(add: Callable[..., object]) -> None:
    add("--model-repository", "--model-store", metavar="DIR", required=True, help="folder of models to serve")
    add(
        "--load-model",
        dest="load_models",
        action="append",
        metavar="NAME",
        help="load this model only; may be repeated (default: all; in explicit mode none, and '*' is all)",
    )
    add(
        "--allow-links-to",
        dest="link_targets",
        action="append",
        metavar="DIR",
        help="follow symbolic links of the repository that lead into this folder, too; may be repeated (default: only "
        "those that stay in the repository)",
    )
    add(
        "--model-control-mode",
        choices=("none", "poll", "explicit"),
        help="none: the models of the start stay; poll: what changes in the repository is loaded and unloaded; "
        "explicit: clients load and unload (default: %(default)s)",
    )
    add(
        "--repository-poll-secs",
        dest="repository_poll_s",
        type=seconds,
        metavar="S",
        help="time between two looks at the repository in mode poll (default: 15)",
    )
    add(
        "--exit-on-error",
        type=boolean,
        metavar="BOOL",
        help="exit if a model fails to load, rather than serve the others (default: true)",
    )
    add(
        "--cache-config",
        dest="cache_bytes",
        type=cache_bytes,
        metavar="local,size=BYTES",
        help="keep answers of models with response_cache { enable: true } in this much memory (default: none)",
    )
    add(
        "--rate-limit",
        choices=("off", "execution_count"),
        help="execution_count: instances take turns by their rate_limiter settings, over all models; off: whoever has "
        "requests executes (default: %(default)s)",
    )
    add(
        "--rate-limit-resource",
        dest="rate_limit_resources",
        action="append",
        type=resource,
        metavar="NAME:COUNT[:DEVICE]",
        help="how much there is of a resource, on one device or on each; may be repeated (default: the most that any "
        "instance asks for)",
    )


def add_addresses(add: Callable[..., object]) -> None:
    add("--host", "--http-address", help="address to listen on (default: %(default)s)")
    add("--http-port", type=port, metavar="PORT", help="a port; 0 picks a free one (default: %(default)s)")
    add("--grpc-port", type=port_or_off, metavar="PORT", help="a port, 0 or 'off' (default: 8001)")
    add("--metrics-port", type=port_or_off, metavar="PORT", help="a port, 0 or 'off' (default: 8002)")
    add("--tls-certificate", metavar="FILE", help="serve HTTP and gRPC over TLS with this certificate (PEM)")
    add("--tls-key", metavar="FILE", help="the key of --tls-certificate (PEM)")
    add("--tls-client-ca", metavar="FILE", help="let in only clients with a certificate of this authority")


def add_limits(add: Callable[..., object]) -> None:
    add(
        "--max-requests-in-flight",
        type=whole,
        metavar="N",
        help="refuse inference requests while so many are under way in the whole server (default: 0, no limit)",
    )
    add(
        "--max-body-bytes",
        "--max-request-bytes",
        dest="request_limit_bytes",
        type=positive,
        metavar="BYTES",
        help="largest request body or message (default: 1 GiB)",
    )
    add(
        "--max-body-memory-bytes",
        dest="body_memory_bytes",
        type=whole,
        metavar="BYTES",
        help="refuse requests whose bodies would take more memory together (default: half of the machine's, or of the "
        "container's; 0 for no limit)",
    )
    add(
        "--max-connections",
        type=whole,
        metavar="N",
        help="refuse clients while a port has so many connections (default: 0, no limit)",
    )
    add(
        "--idle-timeout-s",
        type=seconds,
        metavar="S",
        help="close connections that nothing was asked on for so long (default: 0, never)",
    )
    add(
        "--stall-timeout-s",
        type=seconds,
        metavar="S",
        help="cut connections on which for so long less than 64 KiB of a request came or of an answer was taken "
        "(default: 60; 0 for never)",
    )
    add(
        "--exit-timeout-s",
        "--exit-timeout-secs",
        dest="exit_timeout_s",
        type=seconds,
        metavar="S",
        help="time that requests under way get to finish on SIGTERM; the exit code is 1 if some do not (default: 30)",
    )
    add(
        "--unload-timeout-s",
        type=seconds,
        metavar="S",
        help="time that a model which is unloaded or replaced gets to answer its last requests; then they fail "
        "(default: 300; 0 for no limit)",
    )
    add("--exit-with-parent", action="store_true", help="stop when the process that started this one ends (Linux)")


def add_figures(add: Callable[..., object]) -> None:
    add(
        "--metrics-interval-ms",
        dest="metrics_interval_s",
        type=milliseconds,
        metavar="MS",
        help="time between two readings of the machine's own figures (default: 2000)",
    )
    add(
        "--metrics-config",
        dest="metrics_settings",
        action="append",
        type=metrics_setting,
        metavar="NAME=VALUE",
        help="what the metrics page tells of latencies: counter_latencies=BOOL (sums; default true), "
        "summary_latencies=BOOL (quantiles of the last minute; default false), "
        "summary_quantiles=QUANTILE:ERROR,..., histogram_latencies=BOOL (first responses of decoupled models; default "
        "true); may be repeated",
    )
    for kind, named in (("gpu", "GPUs"), ("cpu", "processors and memory")):
        add(
            f"--allow-{kind}-metrics",
            dest=f"{kind}_metrics",
            type=boolean,
            metavar="BOOL",
            help=f"figures of the {named} on the metrics page (default: true)",
        )
    add(
        "--spans",
        dest="span_rows",
        type=span_rows,
        metavar="on|off|ROWS",
        help="keep where each request's time went in a ring of so many rows (on: 131072), and emit it as NVTX ranges "
        "while a tool listens (default: off)",
    )
    add(
        "--capture-dir",
        metavar="DIR",
        help="folder that captures are written to when a client asks for them (default: no captures)",
    )
    add(
        "--trace-config",
        dest="trace_settings",
        action="append",
        type=trace_setting,
        metavar="[triton,]NAME=VALUE",
        help="triton,file=FILE that traces of requests go to, triton,log-frequency=N, level=OFF|TIMESTAMPS|TENSORS, "
        "rate=N, count=N, mode=triton; may be repeated (default: level=OFF)",
    )
    _add_log(add)


def _add_log(add: Callable[..., object]) -> None:
    add("--log-file", metavar="FILE", help="log to this file rather than to stderr")
    add("--log-verbose", nargs="?", const=1, type=whole, metavar="LEVEL", help="log more (default: 0)")
    for kind in ("info", "warning", "error"):
        add(f"--log-{kind}", type=boolean, metavar="BOOL", help=f"log {kind} messages (default: true)")
    add(
        "--log-format",
        choices=FORMATS,
        help="default: local time; ISO8601: that of UTC (default: %(default)s)",
    )
