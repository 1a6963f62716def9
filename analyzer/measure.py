"""One RunConfig to one Measurement or Failure: serve, drive, collect, sum up. A failed run is data, no exception."""

import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from os import getpid
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec
from tritonclient.grpc.model_config_pb2 import ModelConfig

from analyzer.collect import overhead
from analyzer.collect.devices import Gpus
from analyzer.collect.gpu_usage import doubts, gpu_usage
from analyzer.collect.host import host_usage
from analyzer.collect.overhead import OFF, Seen, costs, seen
from analyzer.collect.readings import Reading, looking, pids_of, sampled
from analyzer.collect.sampler import Samples
from analyzer.collect.watch import Watch
from analyzer.cores import CoreSplit, on_cores
from analyzer.domain.collecting import CollectingCost
from analyzer.domain.measurement import Failure, Measurement, Outcome
from analyzer.domain.run import RunConfig, ServerConfig
from analyzer.drive import Drivers, LoadRefusedError
from analyzer.errors import ChildError
from analyzer.launchers.server import Launcher, Server
from analyzer.repository import config_texts, varied_all, write_variants
from analyzer.store import RunFolder
from perf_client.profile import LoadProfile, LoadResult


@dataclass(frozen=True, slots=True)
class BenchTimes:
    """``server_warmup_s`` of load go to each fresh server before anything counts.

    ``capture_s`` is how long collectors that slow a server watch it, after each point.
    """

    sample_interval_s: float
    server_warmup_s: float
    capture_s: float = 2.0


@dataclass(frozen=True, slots=True)
class Site:
    """What is particular to a machine that is one of many: its cores, and where input data lies that profiles name."""

    cores: CoreSplit = field(default_factory=CoreSplit)
    moved: Mapping[str, str] = field(default_factory=dict)


class Bench:
    """A place to measure on: a load generator for each driven model and, at a time, one server. Use as a context.

    The server is kept while points share its configuration. Configurations served and request times go into ``run``.
    """

    def __init__(
        self,
        repository: Path,
        configs: Mapping[str, ModelConfig],
        nvml: Gpus,
        times: BenchTimes,
        run: RunFolder,
        *,
        launcher: Launcher,
        site: Site | None = None,
        watch: Watch | None = None,
    ) -> None:
        self._repository = repository
        self._configs = configs
        self._nvml = nvml
        self._launcher = launcher
        self._times = times
        self._run = run
        self._site = site or Site()
        self._watch = watch
        self._whole = ExitStack()
        self._serving = ExitStack()
        self._server: Server | None = None
        self._served: ServerConfig | None = None
        self._is_warm = False
        self._wants_window = False

    def __enter__(self) -> "Bench":
        self._scratch = Path(self._whole.enter_context(tempfile.TemporaryDirectory(prefix="analyzer-")))
        self._drivers = self._whole.enter_context(Drivers(self._scratch))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._serving.close()
        self._whole.close()

    def measure(self, config: RunConfig) -> Outcome:
        """Never raises for what the model, the server or the load does: that is a Failure."""
        try:
            server = self._serve(config.server)
        except ChildError as error:
            return _failure(config, "load", str(error), error.log_tail)
        try:
            self._warm_up(config, server)
            began_s = time.monotonic()
            loads, samples = self._drive(config, server)
        except LoadRefusedError as error:
            if not server.is_alive():
                return self._died(config, server)
            return _failure(config, "drive", str(error), server.log_tail())
        except ChildError as error:
            return _failure(config, "drive", str(error), error.log_tail)
        if not server.is_alive():
            return self._died(config, server)
        measured = self._measurement(config, loads, samples, server.pid)
        if self._wants_window:
            measured = self._captured(measured, server)
        collected = () if self._watch is None else self._watch.collected
        beside_s = max(0.0, time.monotonic() - began_s - max(load.counted_to_ns for load in loads) / 1e9)
        return msgspec.structs.replace(measured, collected=collected, overhead_s=round(beside_s, 4))

    def cost_of_collecting(self, config: RunConfig, names: Sequence[str], length_s: float) -> Iterable[CollectingCost]:
        """What each collector does to the figures of a point. Nothing where none can watch this kind of server."""
        try:
            server = self._serve(config.server)
            if self._watch is None or not self._watch.is_attached:
                return ()
            self._warm_up(config, server)
        except (ChildError, LoadRefusedError) as error:
            return [CollectingCost(collector=name, point=config.key, reason=str(error)) for name in names]
        return costs(names, config.key, length_s, partial(self._window, config, server, length_s))

    def _window(self, config: RunConfig, server: Server, length_s: float, collector: str) -> Seen | str | None:
        """Of the load of a point, with a collector or without any."""
        watch = self._watch
        assert watch is not None, "asked of a bench that watches"
        watch.start(() if collector == OFF else tuple(dict.fromkeys(("spans", collector))))
        try:
            state = next((each for each in watch.collected if each.collector == collector), None)
            if state is not None and state.state != "on":
                return f"{state.state}: {state.reason}"
            with on_cores(self._site.cores.client):
                return seen(self._drivers.run(self._short(config, overhead.WARMUP_S, length_s), server.url))
        except (ChildError, LoadRefusedError) as error:
            return str(error)
        finally:
            watch.stop()

    def _died(self, config: RunConfig, server: Server) -> Failure:
        self._stop_serving()
        return _failure(config, "serve", "the server died under this load", server.log_tail())

    def _serve(self, wanted: ServerConfig) -> Server:
        if self._server is not None and self._served == wanted and self._server.is_alive():
            return self._server
        self._stop_serving()
        folder = self._scratch / wanted.key
        if not folder.exists():
            self._write(wanted, folder)
        log_path, watch = self._scratch / "server.log", self._watch
        flags, prefix = (watch.flags, watch.prefix) if watch is not None else ([], [])
        configs = varied_all(self._configs, wanted)
        with on_cores(self._site.cores.server):
            self._server = self._serving.enter_context(
                self._launcher.serve(configs, folder, log_path, flags=flags, prefix=prefix)
            )
        if watch is not None and self._server.pid is not None:
            watch.attach(self._server.url("http"), self._server.pid)
        self._served = wanted
        self._is_warm = False
        return self._server

    def _write(self, wanted: ServerConfig, folder: Path) -> None:
        """The configurations into the run; and a repository of them, for a server that reads one."""
        if self._launcher.needs_files:
            texts = write_variants(self._repository, self._configs, wanted, folder)
        else:
            folder.mkdir()
            texts = config_texts(self._configs, wanted)
        for model, text in texts.items():
            self._run.keep_config_text(wanted, model, text)

    def _stop_serving(self) -> None:
        self._serving.close()
        self._server = self._served = None

    def _warm_up(self, config: RunConfig, server: Server) -> None:
        """Load on every model of a fresh server that is not counted: first runs allocate, compile, choose kernels."""
        if self._is_warm or self._times.server_warmup_s == 0:
            return
        with on_cores(self._site.cores.client):
            self._drivers.run(self._short(config, 0.0, self._times.server_warmup_s), server.url)
        self._is_warm = True

    def _short(self, config: RunConfig, warmup_s: float, duration_s: float) -> list[tuple[LoadProfile, Path | None]]:
        """The loads of a point for another length; their times are kept nowhere."""
        short: dict[str, Any] = {"warmup_s": warmup_s, "duration_s": duration_s, "request_count": None}
        return [(msgspec.structs.replace(load, **short), None) for load in self._found(config)]

    def _drive(self, config: RunConfig, server: Server) -> tuple[list[LoadResult], Samples[Reading]]:
        jobs = [(load, self._run.latencies_path(config, place)) for place, load in enumerate(self._found(config))]
        self._wants_window = self._watch is not None and self._watch.wants_window()
        watch = None if self._wants_window else self._watch
        interval_s = self._times.sample_interval_s
        with on_cores(self._site.cores.client), looking(server.pid, self._nvml, interval_s) as samples:
            if watch is not None:
                watch.start()
            loads = self._drivers.run(jobs, server.url)
            if watch is not None:
                watch.stop()
        if watch is not None:
            driven = list(zip(loads, (path for _, path in jobs)))
            watch.keep(self._run.timeline_path(config), driven, sampled(server.pid, self._nvml, samples))
        return [_as_asked(load, asked) for load, asked in zip(loads, config.loads)], samples

    def _captured(self, measured: Measurement, server: Server) -> Measurement:
        """Watched under the same load once more, so that what slows the server does not slow the figures.

        The figures stand whatever becomes of that: trouble is a warning.
        """
        config, watch = measured.config, self._watch
        assert watch is not None, "asked of a bench that watches"
        short = self._short(config, overhead.WARMUP_S, self._times.capture_s)
        jobs = [(load, self._scratch / f"captured{place}.npz") for place, (load, _) in enumerate(short)]
        interval_s = self._times.sample_interval_s
        watch.start()
        try:
            with on_cores(self._site.cores.client), looking(server.pid, self._nvml, interval_s) as samples:
                loads = self._drivers.run(jobs, server.url)
        except (ChildError, LoadRefusedError) as error:
            told = f"No timeline of this point is kept: {str(error).rstrip('.')}."
            return msgspec.structs.replace(measured, warnings=(*measured.warnings, told))
        finally:
            watch.stop()
        driven = list(zip(loads, (path for _, path in jobs)))
        watch.keep(self._run.timeline_path(config), driven, sampled(server.pid, self._nvml, samples))
        return msgspec.structs.replace(measured, captured_ns=_common(loads))

    def _found(self, config: RunConfig) -> list[LoadProfile]:
        """The loads, with input data named by where it lies on this machine."""
        moved = self._site.moved
        return [
            msgspec.structs.replace(load, input_data=moved.get(load.input_data, load.input_data))
            for load in config.loads
        ]

    def _measurement(
        self,
        config: RunConfig,
        loads: list[LoadResult],
        samples: Samples[Reading],
        server_pid: int | None,
    ) -> Measurement:
        from_ns, to_ns = _common(loads)
        counted = samples.between(from_ns, to_ns)
        gpus = gpu_usage(
            self._nvml.devices, [(at, gpus) for at, (_, gpus) in counted], pids_of(server_pid), pids_of(getpid())
        )
        return Measurement(
            config=config,
            load=loads[0],
            beside=tuple(loads[1:]),
            host=host_usage([(at, host) for at, (host, _) in counted if host is not None]),
            gpus=gpus,
            gpus_unmeasured=self._nvml.absent,
            measured_at=_now(),
            overhead_s=0.0,
            warnings=tuple(doubts(gpus)),
        )


def _common(loads: Sequence[LoadResult]) -> tuple[int, int]:
    """The counted time that all loads share, by CLOCK_MONOTONIC."""
    from_ns = max(load.start_ns + load.counted_from_ns for load in loads)
    return from_ns, max(from_ns, min(load.start_ns + load.counted_to_ns for load in loads))


def _as_asked(load: LoadResult, asked: LoadProfile) -> LoadResult:
    """With input data named as the point names it, wherever it lay."""
    if load.profile.input_data == asked.input_data:
        return load
    profile = msgspec.structs.replace(load.profile, input_data=asked.input_data)
    return msgspec.structs.replace(load, profile=profile)


def _failure(config: RunConfig, stage: str, reason: str, log_tail: str = "") -> Failure:
    return Failure(config=config, stage=stage, reason=reason, measured_at=_now(), log_tail=log_tail)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
