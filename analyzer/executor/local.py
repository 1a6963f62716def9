"""Measures on this machine, one point after another."""

from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from analyzer.collect.devices import Gpus
from analyzer.collect.environment import environment
from analyzer.collect.metrics_page import MetricsPage
from analyzer.collect.nvml import nvml
from analyzer.collect.watch import Watching
from analyzer.cores import CoreSplit
from analyzer.domain.collecting import CollectingCost
from analyzer.domain.measurement import Outcome
from analyzer.domain.run import RunConfig
from analyzer.executor.idle import idle_gpus
from analyzer.launchers.choose import launcher_of
from analyzer.launchers.runtime import RuntimeLauncher
from analyzer.measure import Bench, BenchTimes, Site
from analyzer.model_analyzer.from_run import SERVER_ONLY
from analyzer.prepare import Inspection, inspect
from analyzer.settings.declared import ProfileSettings
from analyzer.store import RunFolder


class LocalExecutor:
    """See Executor. ``cores`` and ``moved`` are for a machine that is one of many."""

    def __init__(
        self, settings: ProfileSettings, cores: CoreSplit | None = None, moved: Mapping[str, str] | None = None
    ) -> None:
        self._settings = settings
        self._site = Site(cores or CoreSplit(), moved or {})
        self._stack = ExitStack()
        self._waiting: deque[RunConfig] = deque()

    def __enter__(self) -> "LocalExecutor":
        settings, repository = self._settings, Path(self._settings.model_repository)
        self._gpus: Gpus = MetricsPage(settings.metrics_url) if settings.launch_mode == "remote" else nvml()
        self._stack.callback(self._gpus.close)
        self.machine: dict[str, Any] = environment(self._gpus)
        self._launcher = self._stack.enter_context(launcher_of(settings, repository))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def inspect(self) -> Inspection:
        names = [*self._settings.profile_models, *self._settings.bls_composing_models]
        repository = Path(self._settings.model_repository) if self._settings.model_repository else None
        if alone := idle_gpus(
            self._launcher, self._gpus, self._settings.idle_duration_s, self._settings.sample_interval_s
        ):
            self.machine[SERVER_ONLY] = alone
        return inspect(repository, names, self._launcher)

    def begin(self, models: Inspection, run: RunFolder) -> int:
        settings = self._settings
        times = BenchTimes(settings.sample_interval_s, settings.server_warmup_s, settings.capture_duration_s)
        repository = Path(settings.model_repository)
        watching = Watching(settings.collectors, settings.nsys)
        is_watched = isinstance(self._launcher, RuntimeLauncher)
        watch = self._stack.enter_context(watching.opened()) if is_watched else None
        bench = Bench(
            repository, models.configs, self._gpus, times, run, launcher=self._launcher, site=self._site, watch=watch
        )
        self._bench = self._stack.enter_context(bench)
        return 1

    def submit(self, config: RunConfig) -> None:
        self._waiting.append(config)

    def next_outcome(self) -> Outcome:
        return self._bench.measure(self._waiting.popleft())

    def cost_of_collecting(
        self, config: RunConfig, collectors: Sequence[str], window_s: float
    ) -> Sequence[CollectingCost]:
        return tuple(self._bench.cost_of_collecting(config, collectors, window_s))
