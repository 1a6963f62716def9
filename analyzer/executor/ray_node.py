"""What runs on a machine of the cluster: it unpacks what came, measures as on one machine, and sends files home."""

import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from tritonclient.grpc.model_config_pb2 import ModelConfig

from analyzer.collect.environment import environment
from analyzer.collect.nvml import nvml
from analyzer.cores import CoreSplit
from analyzer.domain.measurement import Failure, Outcome
from analyzer.domain.run import RunConfig
from analyzer.executor.bundles import Bundle
from analyzer.executor.local import LocalExecutor
from analyzer.executor.node_home import NodeHome, cores_by_sibling
from analyzer.executor.parcel import Parcel, unpacked
from analyzer.prepare import Inspection
from analyzer.settings.declared import ProfileSettings
from analyzer.store import RunFolder, RunHeader

UNPINNED = "server and load generator had no cores of their own: the machine has fewer than its cluster was told"


@dataclass(frozen=True, slots=True)
class Job:
    """All that a run is, for machines that share no files. ``moved`` tells for input data its parcel and place in it.

    ``header`` and ``configs`` (serialized, by model) are those of the run; an inspection goes without.
    """

    settings: ProfileSettings
    bundle: Bundle
    models: tuple[Parcel, ...]
    data: tuple[Parcel, ...]
    moved: Mapping[str, tuple[str, str]]
    header: RunHeader | None = None
    configs: Mapping[str, bytes] | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """A point's outcome as JSON, its files by their place in the run folder, and what it was measured on."""

    outcome: bytes
    files: Mapping[str, bytes]
    machine: Mapping[str, Any]


class MeasuringNode:
    """The actor of one candidate. ``name`` is that of its scratch folder."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._stack = ExitStack()
        self._executor: LocalExecutor | None = None

    def node(self) -> str:
        import ray

        return str(ray.get_runtime_context().get_node_id())

    def inspect(self, job: Job) -> tuple[dict[str, bytes], float]:
        found = self._ready(job).inspect()
        return {name: config.SerializeToString() for name, config in found.configs.items()}, found.server_start_s

    def measure(self, job: Job, config: bytes) -> Report:
        """A point travels as JSON: a pickled record does not keep which fields were left at their defaults, its key."""
        executor = self._ready(job)
        executor.submit(msgspec.json.decode(config, type=RunConfig))
        outcome: Outcome = executor.next_outcome()
        if not self._cores.server and not isinstance(outcome, Failure):
            outcome = msgspec.structs.replace(outcome, warnings=(*outcome.warnings, UNPINNED))
        placed = {"ray_node": self.node(), "server_cores": self._cores.server, "client_cores": self._cores.client}
        return Report(msgspec.json.encode(outcome), taken(self._run), {**executor.machine, **placed})

    def cost_of_collecting(self, job: Job, config: bytes, collectors: Sequence[str], window_s: float) -> bytes:
        executor = self._ready(job)
        point = msgspec.json.decode(config, type=RunConfig)
        return msgspec.json.encode(executor.cost_of_collecting(point, collectors, window_s))

    def close(self) -> None:
        self._stack.close()

    def _ready(self, job: Job) -> LocalExecutor:
        if self._executor is not None:
            return self._executor
        home = NodeHome()
        scratch = self._stack.enter_context(home.scratch(self._name))
        _settle_process(scratch, job.bundle)
        allowed = cores_by_sibling(sorted(os.sched_getaffinity(0)))
        claim = home.cores(job.bundle.server_cpus, job.bundle.client_cpus, allowed)
        self._cores: CoreSplit = self._stack.enter_context(claim)
        places = {parcel.digest: self._unpacked(home, parcel) for parcel in (*job.models, *job.data)}
        repository = scratch / "models"
        repository.mkdir()
        for parcel in job.models:
            (repository / parcel.name).symlink_to(places[parcel.digest] / parcel.name)
        moved = {given: str(places[digest] / within) for given, (digest, within) in job.moved.items()}
        settings = msgspec.structs.replace(job.settings, model_repository=str(repository))
        self._executor = self._stack.enter_context(LocalExecutor(settings, self._cores, moved))
        if job.header is not None and job.configs is not None:
            self._run = scratch / "run"
            self._run.mkdir()
            configs = {name: ModelConfig.FromString(text) for name, text in job.configs.items()}
            run = RunFolder(self._run, job.header, self._executor.machine)
            self._executor.begin(Inspection(configs, server_start_s=0.0), run)
        return self._executor

    def _unpacked(self, home: NodeHome, parcel: Parcel) -> Path:
        import ray

        self._stack.enter_context(home.parcel_in_use(parcel.digest))
        return unpacked(parcel.digest, ray.get(parcel.content), home.parcels)


def probe() -> dict[str, Any]:
    """The environment record of the machine that this runs on."""
    gpus = nvml()
    try:
        return environment(gpus)
    finally:
        gpus.close()


def sweep(scratches: tuple[str, ...], digests: tuple[str, ...]) -> None:
    NodeHome().sweep(scratches, digests)


def taken(folder: Path) -> dict[str, bytes]:
    """All files below a folder, by their place in it; it is empty then."""
    files = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        files[str(path.relative_to(folder))] = path.read_bytes()
        path.unlink()
    return files


def _settle_process(scratch: Path, bundle: Bundle) -> None:
    """Temporary files go where they are swept up; the server's threads are its own affair.

    Ray sets OMP_NUM_THREADS to the CPUs of an actor, which a server that runs by itself would not have.
    """
    os.environ["TMPDIR"] = tempfile.tempdir = str(scratch)
    if os.environ.get("OMP_NUM_THREADS") == str(bundle.server_cpus):
        del os.environ["OMP_NUM_THREADS"]
