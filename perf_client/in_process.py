"""A serving runtime in this very process, found by its module's name: client and server know nothing of each other."""

import importlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, NoReturn, Protocol

from perf_client.control import Refused, server_times_of
from perf_client.errors import usage_error
from perf_client.grpc_control import config_of_message, metadata_of
from perf_client.payload import Request
from perf_client.placement import Placement
from perf_client.profile import LoadProfile, Parameter, ServerTimes
from perf_client.regions import RegionName
from perf_client.target import ModelConfig, ModelMetadata
from perf_client.wire import Envelope

RUNTIME_MODULE = "analyzer.runtime.in_process"

Reply = Callable[[str, str, bool], None]
"""Failure class (empty: none), the error's words, and whether this is the last answer."""


class Runtime(Protocol):
    """What the module's ``InProcessRuntime`` offers. ValueError is a sentence about what can't be done."""

    async def open(self, models: Sequence[str]) -> None: ...

    def metadata(self, model: str, version: str) -> Any:
        """A ModelMetadataResponse; the others give messages of KServe's gRPC service too."""

    def config(self, model: str, version: str) -> Any: ...

    def statistics(self, model: str, version: str) -> Any: ...

    def prepare(
        self,
        model: str,
        version: str,
        inputs: Mapping[str, tuple[str, tuple[int, ...], bytes]],
        outputs: Sequence[str],
        parameters: Mapping[str, Parameter],
    ) -> Any: ...

    def submit(self, request: Any, reply: Reply) -> None: ...

    async def close(self) -> None: ...


@asynccontextmanager
async def opened_runtime(profile: LoadProfile) -> AsyncIterator[Runtime]:
    """The models of the load, loaded from the repository that ``profile.endpoint`` names."""
    try:
        module = importlib.import_module(RUNTIME_MODULE)
    except ImportError as error:
        raise usage_error(f"--service-kind in_process: {error}; install the analyzer beside perf-client") from None
    runtime: Runtime = module.InProcessRuntime(profile.endpoint)
    try:
        try:
            await runtime.open([share.model for share in profile.shares])
        except ValueError as error:
            raise usage_error(f"--model-repository {profile.endpoint}: {error}") from None
        yield runtime
    finally:
        await runtime.close()


class InProcessControl:
    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def metadata(self, model: str, version: str) -> ModelMetadata:
        return metadata_of(_asked(lambda: self._runtime.metadata(model, version)))

    async def config(self, model: str, version: str) -> ModelConfig:
        return config_of_message(_asked(lambda: self._runtime.config(model, version)))

    async def statistics(self, model: str, version: str) -> tuple[ServerTimes, ...]:
        return tuple(server_times_of(entry) for entry in _asked(lambda: self._runtime.statistics(model, version)))

    async def register(self, region: RegionName) -> None:
        _no_memory()

    async def unregister(self, region: RegionName) -> None:
        _no_memory()

    def close(self) -> None:
        pass


def _asked(question: Callable[[], Any]) -> Any:
    try:
        return question()
    except ValueError as error:
        raise Refused(str(error)) from None


def _no_memory() -> NoReturn:
    raise Refused("tensors are shared with a runtime in this process anyway", missing=True)


def preparing(runtime: Runtime) -> Callable[..., Any]:
    """What stands for encoding a request, where nothing goes over a wire."""

    def prepare(envelope: Envelope, request: Request, placement: Placement | None = None) -> Any:
        inputs = {name: (each.datatype, each.shape, each.data) for name, each in request.inputs.items()}
        try:
            return runtime.prepare(envelope.model, envelope.version, inputs, envelope.outputs, request.parameters)
        except ValueError as error:
            raise usage_error(f"model {envelope.model} can't take the input data: {error}") from None

    return prepare
