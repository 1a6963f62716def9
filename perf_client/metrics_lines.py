"""The server's metrics as lines of a report and cells of a CSV: perf_analyzer's for GPUs, then all that was read."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from perf_client.metrics_source import GPU_FAMILIES
from perf_client.profile import CountCheck, LoadResult, Metric


@dataclass(frozen=True, slots=True)
class _GpuFigure:
    title: str
    family: str
    read: Callable[[Metric], float | None]
    shown: Callable[[float], str]


GPU_FIGURES = (
    _GpuFigure("Avg GPU Utilization", GPU_FAMILIES[0], lambda m: m.mean, lambda value: f"{value * 100:g}%"),
    _GpuFigure("Avg GPU Power Usage", GPU_FAMILIES[1], lambda m: m.mean, lambda value: f"{value:g} watts"),
    _GpuFigure("Max GPU Memory Usage", GPU_FAMILIES[2], lambda m: m.most, lambda value: f"{value:.0f} bytes"),
    _GpuFigure("Total GPU Memory", GPU_FAMILIES[3], lambda m: m.most, lambda value: f"{value:.0f} bytes"),
)


def metrics_lines(result: LoadResult) -> Iterator[str]:
    """Nothing where metrics were not asked for. Series that were zero all along are left out."""
    if not result.metrics and not result.metrics_unmeasured:
        return
    yield "  Server Prometheus Metrics: "
    if result.metrics_unmeasured:
        yield f"    [WARNING] Not measured: {result.metrics_unmeasured}"
    if not result.metrics:
        return
    for figure in GPU_FIGURES:
        yield f"    {figure.title}:"
        for uuid, value in _by_gpu(result.metrics, figure):
            yield f"      {uuid} : {figure.shown(value)}"
    for metric in result.metrics:
        if metric.name not in GPU_FAMILIES and (metric.growth or metric.least or metric.most):
            yield f"    {_name(metric)}: {_figures(metric)}"


def gpu_cells(result: LoadResult) -> dict[str, str]:
    """perf_analyzer's columns: ``uuid:value;`` for each GPU."""
    if not result.metrics and not result.metrics_unmeasured:
        return {}
    return {
        figure.title: "".join(f"{uuid}:{value:g};" for uuid, value in _by_gpu(result.metrics, figure))
        for figure in GPU_FIGURES
    }


def metric_cells(result: LoadResult) -> dict[str, str]:
    """A column for each series that is no GPU's: the growth of a counter, the mean of a gauge."""
    return {
        _name(metric): f"{metric.mean if metric.growth is None else metric.growth:.10g}"
        for metric in result.metrics
        if metric.name not in GPU_FAMILIES
    }


def _by_gpu(metrics: Sequence[Metric], figure: _GpuFigure) -> Iterator[tuple[str, float]]:
    for metric in metrics:
        if metric.name == figure.family and (value := figure.read(metric)) is not None:
            yield metric.labels.get("gpu_uuid", ""), value


def _name(metric: Metric) -> str:
    labels = ",".join(f'{name}="{value}"' for name, value in metric.labels.items())
    return f"{metric.name}{{{labels}}}" if labels else metric.name


def _figures(metric: Metric) -> str:
    if metric.growth is not None:
        return f"grew by {metric.growth:.10g} ({metric.per_second:.10g} per second)"
    return f"min {metric.least:.10g}, mean {metric.mean:.10g}, max {metric.most:.10g}"


def count_lines(check: CountCheck) -> Iterator[str]:
    """Whether the server counted the requests that were sent, and what it means where it did not."""
    ours = f"{check.surely_count}"
    if check.at_most_count != check.surely_count:
        ours += f" to {check.at_most_count}, as some were under way when it was asked"
    failed = f", {check.server_failed_count} of them failed" if check.server_failed_count else ""
    line = f"Server's count: {check.server_count} requests{failed}; ours over the same time: {ours}"
    if check.unexplained_count > 0:
        yield f"[WARNING] {line}: {check.unexplained_count} came from somewhere else, so others use this server too"
    elif check.unexplained_count < 0:
        yield f"[WARNING] {line}: {-check.unexplained_count} were answered without the model"
    else:
        yield line
