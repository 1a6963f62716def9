"""The options about the server's metrics: perf_analyzer's three, and the families to read."""

import argparse
from typing import Any

from perf_client import values
from perf_client.errors import usage_error
from perf_client.metrics_source import DEFAULT_FAMILIES, MetricsSource
from perf_client.target import Target

DEFAULT_PORT = 8002
DEFAULT_INTERVAL_MS = 1000


def add_metrics(group: Any) -> None:
    group.add_argument("--collect-metrics", action="store_true", help="read the server's Prometheus page all along")
    group.add_argument("--metrics-url", metavar="URL", help="where it is; default: port 8002 of the server, /metrics")
    group.add_argument(
        "--metrics-interval", metavar="MS", type=values.whole_number(1), help="between two readings; default 1000"
    )
    group.add_argument(
        "--metrics-family",
        metavar="NAME",
        action="append",
        help=f"a family to report beside GPU's, * for any; again: more; default {DEFAULT_FAMILIES[0]}",
    )


def metrics_of(given: argparse.Namespace, url: str) -> MetricsSource | None:
    """None where no metrics are wanted."""
    others = ("metrics_url", "metrics_interval", "metrics_family")
    if not given.collect_metrics:
        wanting = next((name for name in others if getattr(given, name)), None)
        if wanting:
            raise usage_error(f"--{wanting.replace('_', '-')} needs --collect-metrics")
        return None
    if given.service_kind != "triton":
        raise usage_error("--collect-metrics needs --service-kind triton")
    return MetricsSource(
        url=_with_path(given.metrics_url) if given.metrics_url else _default_url(url, given.protocol),
        interval_s=(given.metrics_interval or DEFAULT_INTERVAL_MS) / 1000,
        families=tuple(given.metrics_family or DEFAULT_FAMILIES),
    )


def _default_url(url: str, protocol: Any) -> str:
    target = Target.parse(url, protocol)
    host = f"[{target.host}]" if ":" in target.host else target.host
    return f"{host}:{DEFAULT_PORT}/metrics"


def _with_path(url: str) -> str:
    place = url.rpartition("://")[2]
    return url if "/" in place else f"{url}/metrics"
