"""Measures on the machines of a Ray cluster: several points at a time, each on a machine of its own room."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from analyzer.domain.collecting import CollectingCost
from analyzer.domain.measurement import Failure, Measurement, Outcome
from analyzer.domain.run import RunConfig, ServerConfig
from analyzer.errors import ChildError
from analyzer.executor.bundles import bundle_for, gpus_named, of_one_kind, room_on
from analyzer.executor.ray_cluster import Cluster, Lease, LostError
from analyzer.executor.ray_node import Job, Report
from analyzer.prepare import Inspection, data_files
from analyzer.repository import model_folder
from analyzer.settings.declared import ProfileSettings
from analyzer.store import RunFolder

_outcome: msgspec.json.Decoder[Outcome] = msgspec.json.Decoder(Measurement | Failure)

MOST_ATTEMPTS = 3
LOOK_AGAIN_S = 2.0
"""Between looks at whether the cluster still has a machine, and room on it, for what waits."""


@dataclass(slots=True)
class _Place:
    """A lease and what it serves. Points of one server configuration go to one place, so that its server is kept."""

    lease: Lease
    server: ServerConfig
    config: RunConfig | None = None


class RayExecutor:
    """See Executor. Only this process writes into the run folder."""

    def __init__(self, settings: ProfileSettings) -> None:
        self._settings = settings
        self._stack = ExitStack()
        self._places: dict[Any, _Place] = {}
        """By the call that is under way."""
        self._idle: list[_Place] = []
        self._leases: list[Lease] = []
        self._attempts: Counter[str] = Counter()
        self._avoided: dict[str, set[str]] = {}
        self._digests: list[str] = []

    def __enter__(self) -> "RayExecutor":
        settings = self._settings
        self._cluster = Cluster(settings.ray_address)
        self._stack.callback(self._cluster.close)
        try:
            nodes = self._cluster.nodes()
            self._bundle = bundle_for(nodes, settings.ray_cpus, settings.ray_gpus, settings.ray_resource or "")
            able = self._cluster.probed([node for node in nodes if self._bundle.fits(node)])
            found = of_one_kind(able)
        except BaseException:
            self._stack.close()
            raise
        had = {"cores": self._bundle.server_cpus, "gpus": found["gpus"][: self._bundle.gpus], "executor": "ray"}
        without = "" if self._bundle.gpus else found["gpus_unmeasured"] or "no GPU was asked for with --ray-gpus"
        self.machine: dict[str, Any] = {**found, **had, "gpus_unmeasured": without}
        self._room = room_on(able, self._bundle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:
            for place in self._idle:
                place.lease.close()
            for place in self._places.values():
                place.lease.drop()
            self._cluster.sweep(self._leases, self._digests)

    def inspect(self) -> Inspection:
        self._job = self._packed()
        why = ""
        for _ in range(MOST_ATTEMPTS):
            lease = self._leased(self._bundle.gpus, set())
            try:
                configs, server_start_s = self._awaited(lease.actor.inspect.remote(self._job))
            except LostError as error:
                why = str(error)
                lease.drop()
                continue
            lease.close()
            return Inspection({name: ModelConfig.FromString(text) for name, text in configs.items()}, server_start_s)
        raise ChildError(f"what was to load the models was lost {MOST_ATTEMPTS} times; the last time: {why}")

    def _awaited(self, reference: Any) -> Any:
        """The result of a call, unless no machine is left that could have made it."""
        while not self._cluster.ray.wait([reference], timeout=LOOK_AGAIN_S)[0]:
            self._check_room_is_left()
        return self._cluster.result(reference)

    def begin(self, models: Inspection, run: RunFolder) -> int:
        self._run, self._configs = run, models.configs
        texts = {name: config.SerializeToString() for name, config in models.configs.items()}
        job = replace(self._job, header=run.header, configs=texts)
        self._shared_job = self._cluster.ray.put(job)
        return min(self._room, self._settings.parallel or self._room)

    def submit(self, config: RunConfig) -> None:
        same = [place for place in self._idle if place.server == config.server]
        if same:
            place = same[0]
            self._idle.remove(place)
        else:
            for idle in self._idle[:1]:  # its room is needed
                self._idle.remove(idle)
                idle.lease.close()
            gpus = max(self._bundle.gpus, gpus_named(self._configs, config.server))
            place = _Place(self._leased(gpus, self._avoided.get(config.key, set())), config.server)
        place.config = config
        self._places[place.lease.actor.measure.remote(self._shared_job, msgspec.json.encode(config))] = place

    def next_outcome(self) -> Outcome:
        while True:
            done, _ = self._cluster.ray.wait(list(self._places), num_returns=1, timeout=LOOK_AGAIN_S)
            if not done:
                self._check_room_is_left()
                self._make_room()
                continue
            place = self._places.pop(done[0])
            config = place.config
            assert config is not None, "a place with a call under way has a point"
            try:
                report: Report = self._cluster.result(done[0])
            except LostError as error:
                failure = self._lost(place, config, str(error))
                if failure is not None:
                    return failure
                continue
            self._idle.append(place)
            self._keep(config, report)
            return _outcome.decode(report.outcome)

    def cost_of_collecting(
        self, config: RunConfig, collectors: Sequence[str], window_s: float
    ) -> Sequence[CollectingCost]:
        """On whichever machine there is room: what counts is the difference, and all machines are alike."""
        while self._idle:
            self._idle.pop().lease.close()
        lease = self._leased(max(self._bundle.gpus, gpus_named(self._configs, config.server)), set())
        asked = lease.actor.cost_of_collecting.remote(
            self._shared_job, msgspec.json.encode(config), tuple(collectors), window_s
        )
        try:
            found = msgspec.json.decode(self._awaited(asked), type=tuple[CollectingCost, ...])
        except LostError as error:
            lease.drop()
            return [CollectingCost(collector=name, point=config.key, reason=str(error)) for name in collectors]
        lease.close()
        return found

    def _keep(self, config: RunConfig, report: Report) -> None:
        for name, content in report.files.items():
            self._run.keep_file(name, content)
        self._run.keep_machine(config, {**report.machine, "attempt": self._attempts[config.key] + 1})

    def _lost(self, place: _Place, config: RunConfig, why: str) -> Failure | None:
        """Once more, on another machine if there is one; a failure when that was done often enough."""
        node = place.lease.node_id
        place.lease.drop()
        self._attempts[config.key] += 1
        if self._attempts[config.key] >= MOST_ATTEMPTS:
            reason = f"what measured it was lost {MOST_ATTEMPTS} times; the last time: {why}"
            at = datetime.now(UTC).isoformat(timespec="milliseconds")
            return Failure(config=config, stage="lost", reason=reason, measured_at=at)
        avoided = self._avoided.setdefault(config.key, set()) | {node} - {""}
        if any(self._bundle.fits(each) and each.id not in avoided for each in self._cluster.nodes()):
            self._avoided[config.key] = avoided
        else:
            self._avoided.pop(config.key)
        self.submit(config)
        return None

    def _make_room(self) -> None:
        """What still waits for a machine gets that of a place that is done: one that was lost may be missing."""
        waiting = sum(not place.lease.node_id for place in self._places.values())
        for place in self._idle[:waiting]:
            self._idle.remove(place)
            place.lease.close()

    def _check_room_is_left(self) -> None:
        if not any(self._bundle.fits(node) for node in self._cluster.nodes()):
            raise ChildError(
                f"no machine with {self._bundle} is left in the cluster; the same command goes on from here"
            )

    def _leased(self, gpus: int, avoided: set[str]) -> Lease:
        lease = self._cluster.lease(replace(self._bundle, gpus=gpus), avoided)
        self._leases.append(lease)
        return lease

    def _packed(self) -> Job:
        """Models, those that they call, and input data from elsewhere: what travels."""
        repository = Path(self._settings.model_repository)
        names = with_called(repository, [*self._settings.profile_models, *self._settings.bls_composing_models])
        models = {name: self._cluster.parcel(model_folder(repository, name)) for name in names}
        moved, data = {}, []
        for given in data_files(self._settings):
            path = Path(given)
            if path.parent.parent == repository and path.parent.name in models:
                moved[given] = (models[path.parent.name].digest, f"{path.parent.name}/{path.name}")
            else:
                data.append(self._cluster.parcel(path))
                moved[given] = (data[-1].digest, path.name)
        self._digests = [parcel.digest for parcel in (*models.values(), *data)]
        return Job(self._settings, self._bundle, tuple(models.values()), tuple(data), moved)


def with_called(repository: Path, names: Sequence[str]) -> list[str]:
    """Models and, of ensembles among them, the models of their steps, as their ``config.pbtxt`` name them."""
    found = list(dict.fromkeys(names))
    for name in found:
        found += [called for called in _steps(model_folder(repository, name)) if called not in found]
    return found


def _steps(folder: Path) -> Iterator[str]:
    path = folder / "config.pbtxt"
    if path.is_file():
        try:
            config = text_format.Parse(path.read_text(), ModelConfig())
        except (text_format.ParseError, ValueError):
            return  # the server says what is wrong with it
        yield from (step.model_name for step in config.ensemble_scheduling.step)
