"""A model repository, served: which models are loaded, which are ready, and where a request goes."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from tritonclient.grpc import model_config_pb2, service_pb2

from analyzer.runtime.metrics_config import PLAIN, MetricsConfig
from analyzer.runtime.overlay import Override, is_model_name
from analyzer.runtime.rate_limiter import RateLimiter
from analyzer.runtime.repository_diff import Changes
from analyzer.runtime.request import ErrorKind, InferError, InferRequest, Reply
from analyzer.runtime.residents import Residents
from analyzer.runtime.response_cache import ResponseCache
from analyzer.runtime.servable import Servable, count_refusal
from analyzer.runtime.signature import InputSpec, OutputSpec, Signature
from analyzer.runtime.spans import Spans
from analyzer.runtime.statistics import Statistics
from analyzer.runtime.told_config import told_config
from analyzer.runtime.wire import invalid

REFUSALS = ("too_many_requests", "body_memory", "no_model", "wrong_request", "shutting_down")
"""Why requests are refused that no model has failed with: too many are under way, their bodies are too much for the
server's memory, the model is not served, it does not take such a request, the server ends."""


class ModelStore:
    """The models of one repository folder. All methods run on the event loop's thread. ``refused`` counts REFUSALS.

    Nothing is loaded before ``open``. Loading happens in threads, so that the loop goes on serving meanwhile.
    """

    def __init__(
        self,
        repository: Path,
        *,
        loop: asyncio.AbstractEventLoop,
        cache: ResponseCache | None = None,
        limiter: RateLimiter | None = None,
        spans: Spans | None = None,
        link_targets: Sequence[Path] = (),
        metrics: MetricsConfig = PLAIN,
        unload_limit_s: float | None = None,
    ) -> None:
        self.repository = repository
        self.metrics = metrics
        self._residents = Residents(
            repository,
            loop,
            cache=cache,
            limiter=limiter,
            spans=spans,
            link_targets=link_targets,
            summarizes=metrics.summary_latencies,
            unload_limit_s=unload_limit_s,
        )
        self._routes = self._residents.routes
        self.refused = dict.fromkeys(REFUSALS, 0)
        self._is_open = False
        self._is_closed = False

    async def open(self, models: Sequence[str] | None = None) -> None:
        """Loads all models (None) or those named. A model that fails is recorded (see ``index``), not raised.

        Raises OSError where the repository folder can't be read.
        """
        await self._residents.load(self._residents.names() if models is None else models)
        self._is_open = True

    def count_refusal(self, reason: str) -> None:
        self.refused[reason] += 1

    def submit(self, request: InferRequest, reply: Reply) -> None:
        """Queues the request. ``reply`` is called exactly once, on the loop's thread, in a later turn of the loop.

        Raises InferError at once for what is wrong with the request itself: unknown model or version, model not
        ready, unknown or missing input, wrong data type or shape, batch too large, unknown output. ``reply`` is then
        never called. The one exception to "exactly once": a request that outlasts the drain time of ``close``.
        """
        servable = self._routes.get((request.model, request.version))
        if servable is None or self._is_closed:
            raise self._not_served(request)
        try:
            servable.submit(request, reply)
        except InferError as error:
            if not count_refusal(servable.statistics, request, error):
                self.refused["wrong_request"] += 1
            raise

    def _not_served(self, request: InferRequest) -> InferError:
        """Why, and that it was so is counted."""
        if self._is_closed:
            self.refused["shutting_down"] += 1
            return InferError(ErrorKind.UNAVAILABLE, "the server is shutting down")
        self.refused["no_model"] += 1
        return self._residents.why_not_served(request.model, request.version)

    def is_ready(self, model: str, version: str = "") -> bool:
        """False for a model that is not there, too."""
        servable = self._routes.get((model, version))
        return servable is not None and not servable.failure and not self._is_closed

    def all_ready(self) -> bool:
        """True once ``open`` is done and every model that should be served is ready."""
        if not self._is_open or self._is_closed or self._residents.reasons:
            return False
        return not any(servable.failure for servable in self._routes.values())

    def metadata(self, model: str, version: str = "") -> service_pb2.ModelMetadataResponse:
        """Raises InferError where the model is unknown or not ready; so do the others that name a model."""
        signature = self._find(model, version).signature
        loaded = self._residents.models[model]
        return service_pb2.ModelMetadataResponse(
            name=model,
            versions=[str(number) for number in loaded.versions],
            platform=loaded.config.platform or loaded.config.backend,
            inputs=[_tensor_metadata(spec) for spec in signature.inputs.values()],
            outputs=[_tensor_metadata(spec) for spec in signature.outputs.values()],
        )

    def config(self, model: str, version: str = "") -> model_config_pb2.ModelConfig:
        """The completed configuration with its defaults; ``message_dict`` gives it in the form of Triton's JSON."""
        self._find(model, version)
        return told_config(self._residents.models[model].config)

    def statistics(self, model: str = "", version: str = "") -> list[service_pb2.ModelStatistics]:
        """One entry a served version, by name and version; of all models where none is named. Raises InferError."""
        if model and model not in self._residents.models:
            raise invalid(f"requested model '{model}' is not available")
        if model and (model, version) not in self._routes:
            raise invalid(f"requested model version is not available for model '{model}'")
        return [
            servable.statistics.message()
            for name, number, servable in self._residents.served()
            if model in ("", name) and version in ("", str(number))
        ]

    def counters(self) -> Iterator[Statistics]:
        """As ``statistics`` of all models, as they are counted."""
        return (servable.statistics for _, _, servable in self._residents.served())

    def custom_metrics(self) -> str:
        """What models keep for themselves, as a part of the metrics page."""
        return "".join(f"{line}\n" for line in self._residents.script_calls.metrics.lines())

    def pending(self) -> dict[tuple[str, str], int]:
        """Requests queued and not yet executing, by (model, version)."""
        return {(name, str(number)): servable.pending_count for name, number, servable in self._residents.served()}

    def index(self) -> list[service_pb2.RepositoryIndexResponse.ModelIndex]:
        """Every model of the folder: state READY, LOADING, UNLOADING, UNAVAILABLE with its reason, or empty."""
        residents = self._residents
        entries = []
        for name in self._known():
            if name not in residents.models:
                entries += self._absent(name)
                continue
            for number, servable in residents.models[name].versions.items():
                reason = servable.failure
                entries.append(_index_entry(name, str(number), "UNAVAILABLE" if reason else "READY", reason))
        return entries

    async def load(self, model: str, override: Override | None = None) -> None:
        """Loads, or loads again; the old one serves until the new one is ready. Raises InferError.

        An override with files stands for the model's folder, which then need not be in the repository.

        What an ensemble calls is loaded with it, unless it is already. A load that fails leaves the old one serving.
        """
        override = override or Override()
        if model not in self._known() and not (override.files and is_model_name(model)):
            text = f"failed to load '{model}', there is no such folder in the model repository"
            raise InferError(ErrorKind.NOT_FOUND, text)
        failures = await self._residents.load([model], override)
        if model in failures:
            raise InferError(ErrorKind.INVALID_ARGUMENT, f"failed to load '{model}', {failures[model]}")

    async def unload(self, model: str, *, with_called: bool = False) -> None:
        """Takes no more requests, waits for those in flight, then frees the model. One that isn't loaded is no error.

        Who is not answered within ``unload_limit_s`` gets an error.

        ``with_called`` unloads what an ensemble calls, too.
        """
        called = self._residents.called_by(model) if with_called else ()
        await asyncio.gather(*(self._residents.unload(name) for name in (model, *called)))

    async def apply(self, changes: Changes) -> None:
        """Brings the models up to date with what changed in the folder. What can't be loaded stays as it was.

        Ensembles that call a changed model, and those that wait for one, are loaded again with it.
        """
        residents = self._residents
        for name in changes.removed:
            # Routed out at once, drained in the background: a slow request must not hold up the other changes.
            await residents.unload(name, wait=False)
        again = residents.callers_of({*changes.to_load, *changes.removed}) - {*changes.removed}
        await residents.load(sorted({*changes.to_load, *again}))

    def inputs(self, model: str, version: str = "") -> dict[str, InputSpec]:
        """Inputs by name, the same dict at every call: what a front end needs to decode a request."""
        return (self._routes.get((model, version)) or self._find(model, version)).signature.inputs

    def outputs(self, model: str, version: str = "") -> dict[str, OutputSpec]:
        """Outputs by name, the same dict at every call: a front end tells BF16 from UINT16 by it."""
        return (self._routes.get((model, version)) or self._find(model, version)).signature.outputs

    def signature(self, model: str, version: str = "") -> Signature:
        return self._find(model, version).signature

    async def close(self, drain_timeout_s: float) -> list[str]:
        """Refuses new requests, lets those in flight finish within the time, then frees every model.

        Gives the models that did not answer all their requests in time.
        """
        self._is_closed = True
        return await self._residents.close(drain_timeout_s)

    def _known(self) -> list[str]:
        """The models of the folder and those that were, in case it can't be read any more."""
        residents = self._residents
        found: list[str] = []
        with suppress(OSError):
            found = residents.names()
        return sorted({*found, *residents.models, *residents.reasons})

    def _absent(self, model: str) -> list[service_pb2.RepositoryIndexResponse.ModelIndex]:
        """The entries of a model that is not loaded: as Triton tells it, one a version where it was before."""
        residents = self._residents
        state, versions = residents.state(model), residents.unloaded.get(model, ())
        if state or not versions:
            tried = residents.failed.get(model, ()) if state == "UNAVAILABLE" else ()
            reason = residents.reasons.get(model, "")
            return [_index_entry(model, str(version), state, reason) for version in tried or ("",)]
        return [_index_entry(model, str(version), "UNAVAILABLE", "unloaded") for version in versions]

    def _find(self, model: str, version: str) -> Servable:
        return self._residents.find(model, version)


def _tensor_metadata(spec: InputSpec | OutputSpec) -> service_pb2.ModelMetadataResponse.TensorMetadata:
    return service_pb2.ModelMetadataResponse.TensorMetadata(name=spec.name, datatype=spec.datatype, shape=spec.dims)


def _index_entry(name: str, version: str, state: str, reason: str) -> service_pb2.RepositoryIndexResponse.ModelIndex:
    return service_pb2.RepositoryIndexResponse.ModelIndex(name=name, version=version, state=state, reason=reason)
