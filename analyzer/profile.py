"""`analyzer profile`: ask the planner, measure, append, tell, until nothing is worth asking or the time is up."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec

from analyzer.collect import overhead
from analyzer.domain.effort import Effort
from analyzer.domain.measurement import Failure, Measurement, Outcome
from analyzer.domain.run import RunConfig
from analyzer.executor.executor import Executor
from analyzer.executor.make import make_executor
from analyzer.prepare import Inspection, check_measurable, effort_of, header_of, open_run, planner_of
from analyzer.rank.rank import rank
from analyzer.search.planner import Planner
from analyzer.settings.declared import ProfileSettings
from analyzer.store import RunFolder, RunHeader, locked, priced


class Progress(Protocol):
    """Is told what happens; draws it, or not."""

    def started(self, reused: Sequence[Outcome], effort: Effort) -> None: ...

    def measuring(self, config: RunConfig, expected_remaining: int) -> None: ...

    def measured(self, outcome: Outcome) -> None: ...

    def weighing(self, collectors: Sequence[str]) -> None: ...

    def finished(self, reason: str) -> None: ...

    def closed(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Plan:
    """A run that is ready to begin. ``reused`` were told to the planner."""

    header: RunHeader
    planner: Planner
    models: Inspection
    reused: Sequence[Outcome]


def runs_of(settings: ProfileSettings) -> list[ProfileSettings]:
    """One after another: several models are a run each, in a folder of their own, unless they are profiled together."""
    names = settings.profile_models
    if settings.together or len(names) == 1:
        return [msgspec.structs.replace(settings, run=settings.run or str(Path("runs") / "+".join(names)))]
    top = Path(settings.run or "runs")
    share_s = None if settings.time_limit_s is None else settings.time_limit_s / len(names)
    return [
        msgspec.structs.replace(settings, profile_models=(name,), run=str(top / name), time_limit_s=share_s)
        for name in names
    ]


def plan(settings: ProfileSettings, command: str, executor: Executor) -> Plan:
    """What a run would do, from the models and from what an earlier run of the folder has measured."""
    check_measurable(settings, executor.machine)
    models = executor.inspect()
    header = header_of(settings, command, models, executor.machine)
    planner = planner_of(settings, header, models.server_start_s)
    path = _folder(settings)
    earlier = RunFolder.open(path).outcomes(settings.price_per_hour) if RunFolder.exists(path) else []
    reused = [outcome for outcome in earlier if outcome.config.content == header.content and not _was_lost(outcome)]
    for outcome in reused:
        planner.tell(outcome)
    effort = effort_of(settings, header, planner.expected_remaining(), models.server_start_s)
    return Plan(msgspec.structs.replace(header, effort=effort), planner, models, reused)


def run(settings: ProfileSettings, command: str, progress: Progress) -> RunFolder:
    """Measure over a space into a run folder. Every outcome is on disk before the planner hears of it."""
    began_s = time.monotonic()
    path = _folder(settings)
    with ExitStack() as stack:
        executor = stack.enter_context(make_executor(settings))
        planned = plan(settings, command, executor)
        stack.enter_context(locked(path))
        folder = open_run(path, planned.header, executor.machine)
        stack.callback(lambda: folder.keep_ledger(planned.planner.ledger()))
        assert planned.header.effort is not None
        progress.started(planned.reused, planned.header.effort)
        stack.callback(progress.closed)
        deadline_s = float("inf") if settings.time_limit_s is None else began_s + settings.time_limit_s
        deadline_s -= overhead.expected_s(len(settings.weighed)) if settings.weighed else 0.0
        ended = _measure_all(planned, executor, folder, progress, deadline_s)
        _weigh(settings.weighed, executor, folder, progress)
        progress.finished(ended)
        return folder


def _measure_all(planned: Plan, executor: Executor, folder: RunFolder, progress: Progress, deadline_s: float) -> str:
    """Until there is nothing to ask, or no time; says which. As many points are in hand as there is room for."""
    planner, room = planned.planner, executor.begin(planned.models, folder)
    began_s: dict[str, float] = {}
    longest_s = 0.0
    while True:
        is_late = False
        while len(began_s) < room and not is_late and (config := planner.ask()) is not None:
            is_late = time.monotonic() + longest_s > deadline_s
            if not is_late:
                began_s[config.key] = time.monotonic()
                progress.measuring(config, planner.expected_remaining())
                executor.submit(config)
        if not began_s:
            return "the time limit is reached" if is_late else planner.conclusion()
        outcome = priced(executor.next_outcome(), folder.price_per_hour)
        folder.append(outcome)
        planner.tell(outcome)
        progress.measured(outcome)
        longest_s = max(longest_s, time.monotonic() - began_s.pop(outcome.config.key))


def _weigh(collectors: Sequence[str], executor: Executor, folder: RunFolder, progress: Progress) -> None:
    """What collecting does to the figures of the answer, or of the first steady point where there is none.

    It is not measured again for a point whose cost is known.
    """
    outcomes = folder.outcomes()
    chosen = rank(outcomes, folder.header.objectives, folder.header.budgets).recommended
    steady = (each for each in outcomes if isinstance(each, Measurement) and each.load.verdict == "steady")
    point = chosen or next(steady, None)
    if point is None or not collectors:
        return
    known = {cost.collector for cost in folder.costs() if cost.point == point.config.key}
    if known.issuperset(collectors):
        return
    progress.weighing(collectors)
    counted = [(load.request_count, load.counted_to_ns - load.counted_from_ns) for load in point.loads]
    length_s = overhead.window_s(min(count * 1e9 / max(span_ns, 1) for count, span_ns in counted))
    found = executor.cost_of_collecting(point.config, collectors, length_s)
    if found:
        folder.keep_costs(found)


def _was_lost(outcome: Outcome) -> bool:
    """With the machine that measured it, which says nothing of the point: it is worth another try."""
    return isinstance(outcome, Failure) and outcome.stage == "lost"


def _folder(settings: ProfileSettings) -> Path:
    return Path(runs_of(settings)[0].run or "runs")
