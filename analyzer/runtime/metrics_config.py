"""What the metrics page tells of latencies: the settings of --metrics-config."""

import argparse
from collections.abc import Iterable

import msgspec

_QUANTILES = (0.5, 0.9, 0.95, 0.99, 0.999)
_FLAGS = ("counter_latencies", "summary_latencies", "histogram_latencies")
_QUANTILE_NAME = "summary_quantiles"


class MetricsConfig(msgspec.Struct, frozen=True):
    """Sums for each model (counters), quantiles (summaries), and histograms of first responses."""

    counter_latencies: bool = True
    summary_latencies: bool = False
    histogram_latencies: bool = True
    summary_quantiles: tuple[float, ...] = _QUANTILES


PLAIN = MetricsConfig()


def metrics_setting(text: str) -> tuple[str, bool | tuple[float, ...]]:
    """The text of the flag, NAME=VALUE. Raises ArgumentTypeError."""
    name, _, value = text.partition("=")
    if name in _FLAGS and value.lower() in ("true", "false"):
        return name, value.lower() == "true"
    if name in _FLAGS:
        raise argparse.ArgumentTypeError(f"'{text}' says neither true nor false; give {name}=true or {name}=false")
    if name == _QUANTILE_NAME:
        return name, tuple(_quantile(item) for item in value.split(","))
    raise argparse.ArgumentTypeError(
        f"'{text}' is no metrics setting; known are {', '.join((*_FLAGS, _QUANTILE_NAME))}"
    )


def metrics_config(settings: Iterable[tuple[str, bool | tuple[float, ...]]]) -> MetricsConfig:
    """Of a setting that is given twice the last one counts."""
    return msgspec.convert(dict(settings), MetricsConfig)


def _quantile(text: str) -> float:
    """QUANTILE:ERROR. The error is what Triton may be off by; ours is the same for all, so it is only checked."""
    try:
        quantile, error = map(float, text.split(":"))
    except ValueError:
        quantile = error = -1.0
    if not (0 <= quantile <= 1 and 0 <= error <= 1):
        raise argparse.ArgumentTypeError(
            f"'{text}' is no quantile; give QUANTILE:ERROR, both from 0 to 1, as 0.99:0.001"
        )
    return quantile
