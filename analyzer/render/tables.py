"""The tables handed to programs: one row an outcome as CSV, and the whole answer as JSON. Units are in the names."""

import csv
from collections import Counter
from collections.abc import Iterable
from io import StringIO

import msgspec

from analyzer.domain.budget import Budget
from analyzer.domain.measurement import Failure, Measurement, Outcome
from analyzer.domain.metrics import METRICS
from analyzer.domain.ranking import Ranking
from analyzer.domain.run import RunConfig, ServerConfig
from analyzer.render.breakdown import breakdown
from analyzer.render.context import RunContext
from analyzer.render.page import make_view, subject
from analyzer.render.view import Charts
from perf_client.loads import VideoStreams, arrival_of
from perf_client.profile import Concurrency, LoadResult, RequestRate

FORMAT_VERSION = 1
"""Of the JSON. 1: first."""

Value = str | int | float | bool | None
Row = dict[str, Value]

_INTERVALS = ("throughput", "p99_latency_ms")
_UNITS = {"throughput": "throughput_per_s", "server_cpu": "server_cpu_cores"}
"""Columns of metrics whose own name has no unit."""
_PARTS = {
    "Late start": "late_start_ms",
    "Client and network": "client_network_ms",
    "Queue": "queue_ms",
    "Input": "compute_input_ms",
    "Compute": "compute_infer_ms",
    "Output": "compute_output_ms",
}


_NOT_KEPT = ("request_count", "dropped_count", "client_bound", "client_cpu_ratio", "incomplete", "duration_s", "seed")
"""What is not known of a point that another tool measured."""


def csv_text(outcomes: Iterable[Outcome], ranking: Ranking) -> str:
    """Every outcome as it was measured, repeats apart. What was not measured is an empty field, never 0."""
    rows = [row(outcome, ranking.budgets) for outcome in outcomes]
    text = StringIO()
    writer = csv.DictWriter(text, fieldnames=COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def json_text(outcomes: Iterable[Outcome], ranking: Ranking, context: RunContext) -> str:
    """The answer, why, and every outcome: what the page says, for a program."""
    view = make_view(ranking, context, Charts())
    chosen = ranking.recommended
    answer = {
        "format_version": FORMAT_VERSION,
        "model": context.model,
        "verdict": view.verdict,
        "reasons": ranking.reasons,
        "warnings": ranking.warnings,
        "objectives": ranking.objectives,
        "budgets": ranking.budgets,
        "recommended": row(chosen, ranking.budgets) if chosen else None,
        "recommended_config": {file.name: file.text for file in view.configs},
        "default": row(ranking.default, ranking.budgets) if ranking.default else None,
        "tied": [m.config.key for m in ranking.tied],
        "holds_back": view.holds_back,
        "diagnosis": context.diagnoses.get(about.config.key) if (about := subject(ranking)) else None,
        "findings": {key: each.findings for key, each in context.diagnoses.items() if each.findings},
        "pareto": [m.config.key for m in ranking.pareto],
        "ordered": [m.config.key for m in ranking.ordered],
        "excluded": {e.measurement.config.key: e.reason for e in ranking.excluded},
        "collecting": context.costs,
        "ledger": Counter(entry.state for entry in context.ledger),
        "outcomes": [row(outcome, ranking.budgets) for outcome in outcomes],
        "command": context.command,
        "environment": context.environment,
        "settings": context.settings,
    }
    return msgspec.json.format(msgspec.json.encode(answer), indent=2).decode() + "\n"


def row(outcome: Outcome, budgets: tuple[Budget, ...]) -> Row:
    """One outcome under the names in ``COLUMNS``."""
    found: Row = dict.fromkeys(COLUMNS)
    found |= _configuration(outcome.config)
    found["measured_at"] = outcome.measured_at
    if isinstance(outcome, Failure):
        return found | {"outcome": "failure", "failed_at": outcome.stage, "reason": outcome.reason}
    return found | {"outcome": "measurement"} | _figures(outcome) | _kept(outcome, budgets)


def _configuration(config: RunConfig) -> Row:
    load = config.load
    return {
        "point": config.key,
        "server_config": config.server.key,
        "model": load.model,
        **_variants(config.server),
        "protocol": load.protocol,
        "client_batch_size": load.batch_size,
        "shared_memory": load.shared_memory,
        "concurrency": load.load.in_flight if isinstance(load.load, Concurrency) else None,
        "request_rate_per_s": load.load.per_second if isinstance(load.load, RequestRate) else None,
        "video_streams": load.load.streams if isinstance(load.load, VideoStreams) else None,
        "frames_per_second": load.load.frames_per_second if isinstance(load.load, VideoStreams) else None,
        "arrival": arrival_of(load.load),
        "duration_s": load.duration_s,
        "seed": load.seed,
        "load": "open" if load.load.open_loop else "closed",
    }


def _variants(server: ServerConfig) -> Row:
    """Settings of the first model by column; all as JSON in one more, where there are several or other fields."""
    first = server.variants[0]
    return {
        "is_default": server.is_default,
        "instance_count": first.instance_count,
        "max_batch_size": first.max_batch_size,
        "dynamic_batching": first.dynamic_batching,
        "queue_delay_us": first.queue_delay_us,
        "variants": msgspec.json.encode(server.variants).decode()
        if len(server.variants) > 1 or first.edits or first.preferred_batch_sizes
        else "",
    }


def _figures(measurement: Measurement) -> Row:
    load = measurement.load
    found: Row = {
        "verdict": load.verdict,
        "reason": load.verdict_reason,
        "incomplete": load.incomplete,
        "client_bound": load.client.bound,
        "client_cpu_ratio": load.client.cpu_ratio,
        "request_count": load.request_count,
        "dropped_count": load.dropped_count,
        "warnings": " | ".join(measurement.warnings),
    }
    for name, metric in METRICS.items():
        estimate = metric.read(measurement)
        found[_column(name)] = None if estimate is None else estimate.value
        if name in _INTERVALS and estimate is not None:
            found[f"{_column(name)}_low"], found[f"{_column(name)}_high"] = estimate.low, estimate.high
    if load.verdict == "not judged":
        found |= dict.fromkeys(_NOT_KEPT)
    found["beside"] = (
        msgspec.json.encode([_beside(load) for load in measurement.beside]).decode() if measurement.beside else ""
    )
    parts = breakdown(measurement)
    found |= {_PARTS[part.name]: part.ms for part in (parts.parts if parts else ())}
    return found


def _beside(load: LoadResult) -> Row:
    """Of another model that was driven at the same time."""
    figures = {name: metric.of_load(load) for name, metric in METRICS.items() if metric.of_load is not None}
    known = {_column(name): estimate.value for name, estimate in figures.items() if estimate is not None}
    return {"model": load.profile.model, "load": load.profile.load.level, "verdict": load.verdict, **known}


def _kept(measurement: Measurement, budgets: tuple[Budget, ...]) -> Row:
    """Within every budget or not; unknown where one could not be checked. The violation is the largest relative one."""
    violations = [budget.violation(measurement) for budget in budgets]
    known = [violation for violation in violations if violation is not None]
    if any(violation > 0 for violation in known):
        return {"within_budget": False, "violation_ratio": max(known)}
    return {
        "within_budget": None if len(known) < len(violations) else True,
        "violation_ratio": max(known, default=None),
    }


def _column(metric: str) -> str:
    name = _UNITS.get(metric, metric)
    return f"{name}_ratio" if METRICS[metric].unit == "ratio" and not name.endswith("_ratio") else name


def _metric_columns() -> Iterable[str]:
    for name in METRICS:
        yield _column(name)
        if name in _INTERVALS:
            yield from (f"{_column(name)}_low", f"{_column(name)}_high")


COLUMNS = (
    "outcome", "model", "is_default", "instance_count", "max_batch_size", "dynamic_batching", "queue_delay_us",
    "load", "concurrency", "request_rate_per_s", "video_streams", "frames_per_second", "arrival", "client_batch_size",
    "within_budget", "violation_ratio",
    *_metric_columns(),
    *_PARTS.values(),
    "verdict", "reason", "failed_at", "warnings", "incomplete", "client_bound", "client_cpu_ratio", "request_count",
    "dropped_count", "protocol", "shared_memory", "duration_s", "seed", "measured_at", "server_config", "point",
    "variants", "beside",
)  # fmt: skip
