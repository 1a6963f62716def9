"""A model repository, served: which models are loaded, which are ready, and where a request goes."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from tritonclient.grpc import model_config_pb2, service_pb2

from analyzer.runtime.request import InferRequest, Reply
from analyzer.runtime.signature import InputSpec, OutputSpec


class ModelStore:
    """The models of one repository folder. All methods run on the event loop's thread.

    Nothing is loaded before ``open``. Loading happens in threads, so that the loop goes on serving meanwhile.
    """

    def __init__(self, repository: Path, *, loop: asyncio.AbstractEventLoop) -> None:
        self.repository = repository
        self._loop = loop

    async def open(self, models: Sequence[str] | None = None) -> None:
        """Loads all models (None) or those named. A model that fails is recorded (see ``index``), not raised."""
        raise NotImplementedError

    def submit(self, request: InferRequest, reply: Reply) -> None:
        """Queues the request. ``reply`` is called exactly once, on the loop's thread, in a later turn of the loop.

        Raises InferError at once for what is wrong with the request itself: unknown model or version, model not
        ready, unknown or missing input, wrong data type or shape, batch too large, unknown output. ``reply`` is then
        never called.
        """
        raise NotImplementedError

    def is_ready(self, model: str, version: str = "") -> bool:
        raise NotImplementedError

    def all_ready(self) -> bool:
        """True once ``open`` is done and every model that should be served is ready."""
        raise NotImplementedError

    def metadata(self, model: str, version: str = "") -> service_pb2.ModelMetadataResponse:
        """Raises InferError where the model is unknown or not ready; so do the others that name a model."""
        raise NotImplementedError

    def config(self, model: str, version: str = "") -> model_config_pb2.ModelConfig:
        """The completed configuration. ``model_config.config_to_dict`` makes it JSON in Triton's form."""
        raise NotImplementedError

    def statistics(self, model: str = "", version: str = "") -> list[service_pb2.ModelStatistics]:
        """One entry a served version, ordered by name and version; all models where none is named."""
        raise NotImplementedError

    def pending(self) -> dict[tuple[str, str], int]:
        """Requests queued and not yet executing, by (model, version)."""
        raise NotImplementedError

    def index(self) -> list[service_pb2.RepositoryIndexResponse.ModelIndex]:
        """Every model of the folder: state READY, LOADING, UNLOADING, UNAVAILABLE with its reason, or empty."""
        raise NotImplementedError

    async def load(self, model: str, config_json: str | None = None) -> None:
        """Loads, or loads again; the old one serves until the new one is ready. Raises InferError."""
        raise NotImplementedError

    async def unload(self, model: str) -> None:
        """Takes no more requests, waits for those in flight, then frees the model. Raises InferError."""
        raise NotImplementedError

    def inputs(self, model: str, version: str = "") -> dict[str, InputSpec]:
        """Inputs by name, the same dict at every call: what a front end needs to decode a request."""
        raise NotImplementedError

    def outputs(self, model: str, version: str = "") -> dict[str, OutputSpec]:
        """Outputs by name, the same dict at every call: a front end tells BF16 from UINT16 by it."""
        raise NotImplementedError

    async def close(self, drain_timeout_s: float) -> None:
        """Refuses new requests, lets those in flight finish within the time, then frees every model."""
        raise NotImplementedError
