"""`analyzer profile`: ask the planner, measure, append, tell, until nothing is worth asking or the time is up."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

from analyzer.collect.environment import environment
from analyzer.collect.nvml import nvml
from analyzer.domain.measurement import Outcome
from analyzer.domain.run import RunConfig
from analyzer.measure import Bench, BenchTimes
from analyzer.prepare import check_measurable, header_of, inspect, open_run, planner_of
from analyzer.settings.declared import ProfileSettings
from analyzer.store import RunFolder, locked


class Progress(Protocol):
    """Is told what happens; draws it, or not."""

    def started(self, reused: Sequence[Outcome], expected: int) -> None: ...

    def measuring(self, config: RunConfig, expected_remaining: int) -> None: ...

    def measured(self, outcome: Outcome) -> None: ...

    def finished(self, reason: str) -> None: ...

    def closed(self) -> None: ...


def run(settings: ProfileSettings, command: str, progress: Progress) -> RunFolder:
    """Measure one model over its space into a run folder. Every outcome is on disk before the next point begins."""
    began_s = time.monotonic()
    repository = Path(settings.model_repository)
    path = Path(settings.run or Path("runs") / settings.profile_models[0])
    with ExitStack() as stack:
        gpus = nvml()
        stack.callback(gpus.close)
        check_measurable(settings.budgets, gpus)
        configs = inspect(repository, settings.profile_models[0])
        header = header_of(settings, command, configs, gpus)
        stack.enter_context(locked(path))
        folder = open_run(path, header, environment(gpus))
        planner = planner_of(settings, header)
        stack.callback(lambda: folder.keep_ledger(planner.ledger()))
        reused = [outcome for outcome in folder.outcomes() if outcome.config.content == header.content]
        for outcome in reused:
            planner.tell(outcome)
        progress.started(reused, planner.expected_remaining())
        stack.callback(progress.closed)
        times = BenchTimes(settings.sample_interval_s, settings.server_warmup_s)
        bench = stack.enter_context(Bench(repository, configs, gpus, times, folder))
        deadline_s = float("inf") if settings.time_limit_s is None else began_s + settings.time_limit_s
        longest_s = 0.0
        while (config := planner.ask()) is not None:
            point_began_s = time.monotonic()
            if point_began_s + longest_s > deadline_s:
                progress.finished("the time limit is reached")
                return folder
            progress.measuring(config, planner.expected_remaining())
            outcome = bench.measure(config)
            folder.append(outcome)
            planner.tell(outcome)
            progress.measured(outcome)
            longest_s = max(longest_s, time.monotonic() - point_began_s)
        progress.finished("nothing more is worth measuring")
        return folder
