"""Questions over gRPC, through the same HTTP/2 client that carries the load."""

import asyncio
import time
from typing import Any

from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2

from perf_client.control import Refused, config_of, server_times_of
from perf_client.profile import ServerTimes
from perf_client.record import Recorder
from perf_client.regions import RegionName
from perf_client.target import ModelConfig, ModelMetadata, Target, TensorMetadata
from perf_client.transports.base import Connection
from perf_client.transports.call import CallFailed
from perf_client.transports.grpc import GrpcTransport
from perf_client.transports.grpc_connection import GrpcConnection
from perf_client.transports.http2 import grpc_request
from perf_client.wire import SERVICE

_TIMEOUT_S = 10.0


class _NoOwner:
    """Questions have no load behind them: nothing happens when a stream is free again."""

    def ready(self, connection: Connection, now_ns: int) -> None:
        pass

    def lost(self, connection: Connection) -> None:
        pass


class GrpcControl:
    def __init__(self, target: Target, headers: tuple[tuple[str, str], ...] = ()) -> None:
        self._target = target
        self._headers = headers
        self._transport = GrpcTransport(target, iter(()), time.monotonic_ns, 1, GrpcConnection)
        self._connection: GrpcConnection | None = None

    async def metadata(self, model: str, version: str) -> ModelMetadata:
        request = service_pb2.ModelMetadataRequest(name=model, version=version)
        answer = await self._call("ModelMetadata", request, service_pb2.ModelMetadataResponse)
        return metadata_of(answer)

    async def config(self, model: str, version: str) -> ModelConfig:
        request = service_pb2.ModelConfigRequest(name=model, version=version)
        return config_of_message((await self._call("ModelConfig", request, service_pb2.ModelConfigResponse)).config)

    async def statistics(self, model: str, version: str) -> tuple[ServerTimes, ...]:
        request = service_pb2.ModelStatisticsRequest(name=model, version=version)
        answer = await self._call("ModelStatistics", request, service_pb2.ModelStatisticsResponse)
        return tuple(server_times_of(entry) for entry in answer.model_stats)

    async def register(self, region: RegionName) -> None:
        await self._about(region, "Register", **region.terms)

    async def unregister(self, region: RegionName) -> None:
        await self._about(region, "Unregister")

    async def _about(self, region: RegionName, act: str, **terms: Any) -> None:
        method = f"{'System' if region.kind == 'system' else 'Cuda'}SharedMemory{act}"
        request = getattr(service_pb2, f"{method}Request")(name=region.name, **terms)
        await self._call(method, request, getattr(service_pb2, f"{method}Response"))

    async def _call(self, method: str, request: Any, answer_type: Any) -> Any:
        path = f"/{SERVICE}/{method}"
        message = request.SerializeToString()
        call = grpc_request(self._target.authority, path, message, self._headers, scheme=self._target.scheme)
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                if self._connection is None or not self._connection.usable:
                    self._connection = await self._transport.connect(1, _NoOwner(), Recorder())
                return answer_type.FromString(await self._connection.call(call))
        except CallFailed as error:
            if error.failure.startswith("grpc ") and error.failure != "grpc UNAVAILABLE":
                raise Refused(str(error), missing=error.failure == "grpc UNIMPLEMENTED") from None
            raise OSError(str(error)) from None
        except DecodeError:
            raise OSError(f"the answer of {method} is not one of KServe v2") from None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def metadata_of(answer: Any) -> ModelMetadata:
    """Out of a ModelMetadataResponse."""
    return ModelMetadata(
        name=answer.name,
        inputs=tuple(_tensor(tensor) for tensor in answer.inputs),
        outputs=tuple(_tensor(tensor) for tensor in answer.outputs),
    )


def config_of_message(config: Any) -> ModelConfig:
    """Out of Triton's ModelConfig."""
    return config_of(config, sequential=config.HasField("sequence_batching"))


def _tensor(tensor: Any) -> TensorMetadata:
    return TensorMetadata(name=tensor.name, datatype=tensor.datatype, shape=tuple(tensor.shape))
