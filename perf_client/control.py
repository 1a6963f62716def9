"""Questions to the server that are no load: what the model is, and what the server has counted."""

from typing import TYPE_CHECKING, Any, Protocol

from perf_client.errors import LoadError, server_error, usage_error
from perf_client.profile import ServerTimes, Service
from perf_client.regions import RegionName
from perf_client.target import ModelConfig, ModelDescription, ModelMetadata, Step, Target, describe

if TYPE_CHECKING:
    from perf_client.in_process import Runtime


class Refused(Exception):
    """The server answered, but not with what was asked for.

    ``missing`` where it doesn't offer the question at all, ``foreign`` where no server of KServe v2 says so.
    """

    def __init__(self, message: str, missing: bool = False, foreign: bool = False) -> None:
        super().__init__(message)
        self.missing = missing
        self.foreign = foreign


class Control(Protocol):
    """One connection for questions, apart from those of the load. All may raise Refused or OSError."""

    async def metadata(self, model: str, version: str) -> ModelMetadata: ...

    async def config(self, model: str, version: str) -> ModelConfig: ...

    async def statistics(self, model: str, version: str) -> tuple[ServerTimes, ...]:
        """Cumulative counters, an entry a version."""

    async def register(self, region: RegionName) -> None:
        """Make a region of shared memory known to the server."""

    async def unregister(self, region: RegionName) -> None: ...

    def close(self) -> None: ...


def make_control(
    target: Target,
    headers: tuple[tuple[str, str], ...] = (),
    service: Service = "triton",
    runtime: "Runtime | None" = None,
) -> Control:
    """``headers`` are the user's: what lets the load in may have to let the questions in too."""
    if runtime is not None:
        from perf_client.in_process import InProcessControl

        return InProcessControl(runtime)
    if service == "openai":
        from perf_client.openai_control import OpenAiControl

        return OpenAiControl()
    if target.protocol == "grpc":
        from perf_client.grpc_control import GrpcControl

        return GrpcControl(target, headers)
    from perf_client.http_control import HttpControl

    return HttpControl(target, headers)


def server_times_of(entry: Any) -> ServerTimes:
    """Out of an entry of ``model_stats``, which has the same names in JSON and in protobuf."""
    times = entry.inference_stats
    return ServerTimes(
        model=entry.name,
        version=entry.version,
        inference_count=entry.inference_count,
        execution_count=entry.execution_count,
        success_count=times.success.count,
        fail_count=times.fail.count,
        queue_ns=times.queue.ns,
        compute_input_ns=times.compute_input.ns,
        compute_infer_ns=times.compute_infer.ns,
        compute_output_ns=times.compute_output.ns,
        cache_hit_count=times.cache_hit.count,
        cache_miss_count=times.cache_miss.count,
        cache_hit_ns=times.cache_hit.ns,
        cache_miss_ns=times.cache_miss.ns,
        request_ns=times.success.ns,
    )


def config_of(config: Any, *, sequential: bool) -> ModelConfig:
    """Out of a model's configuration, which has the same names in JSON and in protobuf."""
    return ModelConfig(
        max_batch_size=config.max_batch_size,
        optional_inputs=frozenset(tensor.name for tensor in config.input if tensor.optional),
        steps=tuple(
            Step(model=step.model_name, version="" if step.model_version < 0 else str(step.model_version))
            for step in config.ensemble_scheduling.step
        ),
        decoupled=config.model_transaction_policy.decoupled,
        sequential=sequential,
    )


async def describe_model(control: Control, target: Target, model: str, version: str) -> ModelDescription:
    """Raises LoadError where the server can't be reached, isn't KServe v2 or doesn't have the model."""
    try:
        metadata = await control.metadata(model, version)
    except (OSError, TimeoutError) as error:
        raise _no_server(target, _why(error)) from None
    except Refused as error:
        if error.foreign:
            raise _no_server(target, str(error)) from None
        name = f"{model!r} version {version}" if version else repr(model)
        raise usage_error(f"the server at {target.authority} doesn't serve model {name}: {error}") from None
    try:
        config = await control.config(model, version)
    except (OSError, TimeoutError) as error:
        raise server_error(f"the server at {target.authority} went away: {_why(error)}") from None
    except Refused:
        return describe(metadata, None)
    return describe(metadata, config)


def _no_server(target: Target, why: str) -> LoadError:
    other = "grpc" if target.protocol == "http" else "http"
    return server_error(
        f"no KServe v2 server answers over {target.protocol} at {target.authority} ({why}); start one, or correct -u, "
        f"or use -i {other} if that port speaks it"
    )


def _why(error: BaseException) -> str:
    match error:
        case ConnectionRefusedError():
            return "connection refused"
        case TimeoutError():
            return "no answer in time"
        case _:
            return str(error) or type(error).__name__
