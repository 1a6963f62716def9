"""Results to rows of CSV: perf_analyzer's columns under its headers, then ours."""

import csv
from collections.abc import Callable, Sequence
from io import StringIO
from pathlib import Path

from perf_client.loads import Load, RequestRate, VideoStreams
from perf_client.metrics_lines import gpu_cells, metric_cells
from perf_client.profile import Concurrency, Latency, LoadResult, ServerTimes
from perf_client.server_mean import mean_server_times

PERCENTS = (50.0, 90.0, 95.0, 99.0)
Row = dict[str, str]

OURS: dict[str, Callable[[LoadResult], str]] = {
    "Throughput low": lambda r: _number(r.throughput.low),
    "Throughput high": lambda r: _number(r.throughput.high),
    "Offered/Second": lambda r: _number(r.offered_per_second),
    "p99 latency low": lambda r: _us(_percentile(r.response, 99.0, "low_ns")),
    "p99 latency high": lambda r: _us(_percentile(r.response, 99.0, "high_ns")),
    "p99.9 latency": lambda r: _us(_percentile(r.response, 99.9)),
    "p50 service": lambda r: _us(_percentile(r.service, 50.0)),
    "p99 service": lambda r: _us(_percentile(r.service, 99.0)),
    "p99.9 service": lambda r: _us(_percentile(r.service, 99.9)),
    "Schedule lag p99": lambda r: _us(r.schedule_lag.p99_ns if r.schedule_lag else None),
    "Requests": lambda r: str(r.request_count),
    "Failures": lambda r: str(sum(r.failures.values())),
    "Dropped": lambda r: str(r.dropped_count),
    "Verdict": lambda r: r.verdict,
    "Client CPU": lambda r: f"{r.client.cpu_ratio:.3f}",
    "Client bound": lambda r: str(int(r.client.bound)),
    "Server's count": lambda r: str(r.count_check.server_count) if r.count_check else "",
    "Server's count unexplained": lambda r: str(r.count_check.unexplained_count) if r.count_check else "",
    "Incomplete": lambda r: str(int(r.incomplete)),
}
"""Times in microseconds like perf_analyzer's. An unsupported percentile and what was not measured are empty cells."""


def write_csv(
    path: Path, results: Sequence[LoadResult], *, percent: float | None = None, verbose: bool = False
) -> None:
    """The levels in ``path``; beside it one file for each composing model of an ensemble."""
    rows = [row(result, _first(result), percent=percent, verbose=verbose) for result in results]
    path.write_text(to_text(rows), encoding="utf-8")
    for at in range(1, max((len(result.server) for result in results), default=0)):
        having = [result for result in results if len(result.server) > at]
        model = having[0].server[at]
        text = to_text([row(result, result.server[at], percent=percent, verbose=verbose) for result in having])
        path.with_name(f"{model.model}_v{model.version}.{path.name}").write_text(text, encoding="utf-8")


def to_text(rows: Sequence[Row]) -> str:
    """Headers are those that any row has, in the order of the row that has most of them."""
    header = dict.fromkeys(name for row in sorted(rows, key=len, reverse=True) for name in row)
    out = StringIO()
    writer = csv.DictWriter(out, list(header), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def row(result: LoadResult, server: ServerTimes | None, *, percent: float | None = None, verbose: bool = False) -> Row:
    cells = {
        **_level(result.profile.load),
        "Inferences/Second": _number(result.throughput.per_second),
    }
    cells |= _where_time_goes(result, server)
    for shown in sorted({*PERCENTS, *([percent] if percent else [])}):
        cells[f"p{shown:g} latency"] = _us(_value(result.response, shown))
    if verbose:
        cells |= _verbose(result, percent) | gpu_cells(result)
    ours = {name: read(result) for name, read in OURS.items()}
    return cells | ours | _streams(result) | _models(result) | metric_cells(result)


def _level(load: Load) -> Row:
    match load:
        case Concurrency():
            return {"Concurrency": str(load.in_flight)}
        case RequestRate():
            return {"Request Rate": f"{load.per_second:g}"}
        case VideoStreams():
            return {"Video Streams": str(load.streams), "Frames/Second": f"{load.frames_per_second:g}"}
        case _:
            return {"Load": load.words}


def _streams(result: LoadResult) -> Row:
    if not result.by_stream:
        return {}
    return {
        "Frames on time": str(sum(each.on_time_count for each in result.by_stream)),
        "Frames late": str(sum(each.late_count for each in result.by_stream)),
        "Frames failed": str(sum(each.failed_count for each in result.by_stream)),
        "Frames dropped": str(sum(each.dropped_count for each in result.by_stream)),
        "Fewest on time of a stream": str(min(each.on_time_count for each in result.by_stream)),
    }


def _models(result: LoadResult) -> Row:
    cells: Row = {}
    for each in result.by_model:
        name = f"{each.model} v{each.version}" if each.version else each.model
        cells |= {
            f"{name} Inferences/Second": _number(each.throughput.per_second),
            f"{name} p50 latency": _us(_percentile(each.response, 50.0)),
            f"{name} p99 latency": _us(_percentile(each.response, 99.0)),
            f"{name} Failures": str(sum(each.failures.values())),
            f"{name} Dropped": str(each.dropped_count),
        }
    return cells


def _where_time_goes(result: LoadResult, server: ServerTimes | None) -> Row:
    """Parts of the mean response time; they add up to it. "Client Send" is the wait for the request to leave."""
    response, service, first = (_mean(found) for found in (result.response, result.service, result.first_byte))
    cells = {"Client Send": _us(response - service)}
    if server and server.success_count:
        mean = mean_server_times(server, result.server[1:] if server is _first(result) else ())
        parts = {
            "Server Queue": mean.queue_ns,
            "Server Compute Input": mean.compute_input_ns,
            "Server Compute Infer": mean.compute_infer_ns,
            "Server Compute Output": mean.compute_output_ns,
        }
        if server.cache_hit_count or server.cache_miss_count:
            parts |= {"Server Cache Hit": mean.cache_hit_ns, "Server Cache Miss": mean.cache_miss_ns}
        cells["Network+Server Send/Recv"] = _us(max(0.0, first - sum(parts.values())))
        cells |= {name: _us(value) for name, value in parts.items()}
    return cells | {"Client Recv": _us(service - first)}


def _verbose(result: LoadResult, percent: float | None) -> Row:
    response, service, first = (_mean(found) for found in (result.response, result.service, result.first_byte))
    mean = {} if percent else {"Avg latency": _us(response)}
    return mean | {"request/response": _us(response - service + service - first), "response wait": _us(first)}


def _first(result: LoadResult) -> ServerTimes | None:
    return result.server[0] if result.server else None


def _mean(latency: Latency | None) -> float:
    return latency.mean_ns if latency else 0.0


def _value(latency: Latency | None, percent: float) -> int | None:
    """perf_analyzer's columns always hold a figure, so these do too, known or not."""
    return next((p.value_ns for p in latency.percentiles if p.percent == percent), None) if latency else None


def _percentile(latency: Latency | None, percent: float, field: str = "value_ns") -> int | None:
    for p in latency.percentiles if latency else ():
        if p.percent == percent and p.supported:
            found: int | None = getattr(p, field)
            return found
    return None


def _us(ns: float | None) -> str:
    return "" if ns is None else str(int(ns / 1000))


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:g}"
