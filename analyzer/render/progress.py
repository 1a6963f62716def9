"""What a run shows while it measures: each point as it comes out, the one in hand, the best so far, the time left."""

import time
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.text import Text

from analyzer.domain.budget import Budget, Objective
from analyzer.domain.effort import Effort
from analyzer.domain.figures import number
from analyzer.domain.measurement import Failure, Measurement, Outcome
from analyzer.domain.metrics import METRICS
from analyzer.domain.run import ModelVariant, RunConfig
from analyzer.rank.feasible import sift, worst_miss
from analyzer.rank.rank import rank
from analyzer.render import words
from perf_client.loads import VideoStreams
from perf_client.profile import Concurrency, Load, RequestRate


class ConsoleProgress:
    """Draws on stderr: a line a point, and on a terminal a status line below them. ``clock_s`` tells seconds."""

    def __init__(
        self,
        objectives: Sequence[Objective],
        budgets: Sequence[Budget],
        time_limit_s: float | None,
        console: Console,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._objectives = objectives
        self._budgets = budgets
        self._time_limit_s = time_limit_s
        self._console = console
        self._clock_s = clock_s
        self._began_s = clock_s()
        self._outcomes: list[Outcome] = []
        self._measured_count = 0
        self._status = console.status("starting")

    def started(self, reused: Sequence[Outcome], effort: Effort) -> None:
        self._outcomes = list(reused)
        kept = f" {words.counted(len(reused), 'point')} kept from before." if reused else ""
        self._console.print(Text(size(effort)))
        self._console.print(Text(f"{ahead(effort, self._time_limit_s)}{kept}"))
        if self._console.is_terminal:
            self._status.start()

    def measuring(self, config: RunConfig, expected_remaining: int) -> None:
        self._status.update(
            Text("\n".join((f"measuring {brief(config)}", self._best(), self._time_left(expected_remaining))))
        )

    def measured(self, outcome: Outcome) -> None:
        self._outcomes.append(outcome)
        self._measured_count += 1
        mark, style, found = self._verdict(outcome)
        line = Text(f"{self._measured_count:>3} {mark} ", style=style)
        line.append(found, style="default")
        line.append(f"  {brief(outcome.config)}", style="dim")
        if self._console.is_terminal:
            line.truncate(self._console.width, overflow="ellipsis")
        self._console.print(line, soft_wrap=True)

    def weighing(self, collectors: Sequence[str]) -> None:
        self._status.update(Text(f"measuring what collecting costs: {', '.join(collectors)}\n{self._best()}"))

    def finished(self, reason: str) -> None:
        self._status.stop()
        count = words.counted(self._measured_count, "point")
        self._console.print(Text(f"{count} measured in {_clock(self._clock_s() - self._began_s)}: {reason}."))

    def closed(self) -> None:
        self._status.stop()

    def _verdict(self, outcome: Outcome) -> tuple[str, str, str]:
        if isinstance(outcome, Failure):
            return "x", "red", f"failed: {outcome.reason}"
        figures = f"{_figure(outcome, 'throughput'):>14}  p99 {_figure(outcome, 'p99_latency_ms'):>8}"
        miss = worst_miss(outcome, self._budgets)
        if miss is not None:
            return "-", "yellow", f"{figures}  over"
        if sift([outcome], self._objectives, self._budgets).excluded:
            return "?", "yellow", f"{figures}  left out"
        return "+", "green", f"{figures}  kept"

    def _best(self) -> str:
        best = rank(self._outcomes, self._objectives, self._budgets).recommended if self._outcomes else None
        if best is None:
            return "best so far: none within the budget"
        return f"best so far: {_figure(best, 'throughput')}, p99 {_figure(best, 'p99_latency_ms')}"

    def _time_left(self, expected_remaining: int) -> str:
        spent_s = self._clock_s() - self._began_s
        limit_s = None if self._time_limit_s is None else max(0.0, self._time_limit_s - spent_s)
        left_s = expected_remaining * spent_s / self._measured_count if self._measured_count else limit_s
        if left_s is None:
            return f"about {words.counted(expected_remaining, 'point')} left"
        return f"about {_clock(left_s if limit_s is None else min(left_s, limit_s))} left"


class NoProgress:
    """Draws nothing."""

    def started(self, reused: Sequence[Outcome], effort: Effort) -> None: ...

    def measuring(self, config: RunConfig, expected_remaining: int) -> None: ...

    def measured(self, outcome: Outcome) -> None: ...

    def weighing(self, collectors: Sequence[str]) -> None: ...

    def finished(self, reason: str) -> None: ...

    def closed(self) -> None: ...


def size(effort: Effort) -> str:
    """The space in one sentence."""
    kept = effort.candidate_count - effort.left_out_count
    is_or_are = "is" if effort.left_out_count == 1 else "are"
    left_out = f" ({effort.left_out_count:,} more {is_or_are} left out)" if effort.left_out_count else ""
    return (
        f"{words.counted(kept, 'candidate')}{left_out} at {words.counted(effort.load_count, 'load')}: "
        f"{words.counted(effort.grid_point_count, 'point')} in all."
    )


def ahead(effort: Effort, time_limit_s: float | None) -> str:
    """What a search of it is expected to take."""
    count = effort.expected_point_count
    if not count:
        return "Nothing is left to measure."
    limited = time_limit_s is not None and time_limit_s < effort.expected_s
    spent = f"ended by the limit of {_clock(time_limit_s)}" if limited and time_limit_s else _clock(effort.expected_s)
    return f"About {words.counted(count, 'point')} to measure, {spent}."


def make_progress(
    objectives: Sequence[Objective], budgets: Sequence[Budget], time_limit_s: float | None, quiet: bool
) -> ConsoleProgress | NoProgress:
    if quiet:
        return NoProgress()
    return ConsoleProgress(objectives, budgets, time_limit_s, Console(stderr=True, highlight=False))


def _level(load: Load) -> str:
    return f"{number(load.level)}/s" if isinstance(load, RequestRate) else f"{number(load.level)} {load.axis.lower()}"


def brief(config: RunConfig) -> str:
    """A point in a few words, its load and what was changed of the configuration: ``c 8, 2 inst, batch 16, 500 µs``."""
    load = config.load.load
    parts = [_short(load)]
    if config.beside:
        parts = [f"{each.model} {_short(each.load)}" for each in config.loads]
    if config.load.batch_size > 1:
        parts.append(f"client batch {config.load.batch_size}")
    parts += words.shapes(config.load.shapes)
    if config.server.is_default:
        return ", ".join([*parts, "as it is"])
    if len(config.server.variants) == 1:
        return ", ".join(parts + _changes(config.server.variants[0]))
    alike: dict[str, list[str]] = {}
    for variant in (variant for variant in config.server.variants if not variant.is_default):
        alike.setdefault(", ".join(_changes(variant)), []).append(variant.model)
    return "; ".join([", ".join(parts), *(f"{'+'.join(models)}: {told}" for told, models in alike.items())])


def _short(load: Load) -> str:
    if isinstance(load, VideoStreams):
        return words.counted(load.streams, "stream")
    return f"c {load.in_flight}" if isinstance(load, Concurrency) else _level(load)


def _changes(variant: ModelVariant) -> list[str]:
    found = []
    if variant.instance_count is not None:
        found.append(f"{variant.instance_count} inst")
    if variant.dynamic_batching is False:
        found.append("no batching")
    elif variant.max_batch_size is not None:
        found.append(f"batch {variant.max_batch_size}")
    if variant.queue_delay_us is not None:
        found.append(f"{variant.queue_delay_us} µs")
    if variant.preferred_batch_sizes:
        found.append(f"preferred {'+'.join(map(str, variant.preferred_batch_sizes))}")
    return [*found, *words.edits(variant)]


def _figure(measurement: Measurement, name: str) -> str:
    metric = METRICS[name]
    estimate = metric.read(measurement)
    return "unknown" if estimate is None else f"{number(estimate.value)} {metric.unit}"


def _clock(seconds: float) -> str:
    """``45 s``, ``3 min 20 s``, ``2 h 5 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
