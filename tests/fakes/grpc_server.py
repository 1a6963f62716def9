"""A real grpcio server that speaks KServe v2, with scripted inferences."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import grpc
from tritonclient.grpc import service_pb2 as pb

SERVICE = "inference.GRPCInferenceService"
Converse = Callable[[Iterator[pb.ModelInferRequest], grpc.ServicerContext], Iterator[pb.ModelStreamInferResponse]]
Infer = Callable[[pb.ModelInferRequest, grpc.ServicerContext], pb.ModelInferResponse]


def echo(request: pb.ModelInferRequest, context: grpc.ServicerContext) -> pb.ModelInferResponse:
    """Outputs are the inputs."""
    response = pb.ModelInferResponse(model_name=request.model_name, id=request.id)
    for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True):
        response.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        response.raw_output_contents.append(raw)
    return response


def _metadata(request: pb.ModelMetadataRequest, context: grpc.ServicerContext) -> pb.ModelMetadataResponse:
    if request.name != "echo":
        context.abort(grpc.StatusCode.NOT_FOUND, f"unknown model {request.name}")
    response = pb.ModelMetadataResponse(name="echo")
    response.inputs.add(name="INPUT0", datatype="FP32", shape=[-1, -1])
    response.outputs.add(name="OUTPUT0", datatype="FP32", shape=[-1, -1])
    return response


def _config(decoupled: bool, request: pb.ModelConfigRequest, context: grpc.ServicerContext) -> pb.ModelConfigResponse:
    response = pb.ModelConfigResponse()
    response.config.max_batch_size = 8
    response.config.model_transaction_policy.decoupled = decoupled
    return response


class Counted:
    """Statistics that grow with each inference by fixed times."""

    def __init__(self, infer: Infer) -> None:
        self._infer = infer
        self.count = 0

    def infer(self, request: pb.ModelInferRequest, context: grpc.ServicerContext) -> pb.ModelInferResponse:
        self.count += 1
        return self._infer(request, context)

    def statistics(
        self, request: pb.ModelStatisticsRequest, context: grpc.ServicerContext
    ) -> pb.ModelStatisticsResponse:
        count = self.count
        response = pb.ModelStatisticsResponse()
        entry = response.model_stats.add(name="echo", version="1", inference_count=count, execution_count=count)
        for name, each_ns in (("success", 60), ("queue", 10), ("compute_infer", 50)):
            duration = getattr(entry.inference_stats, name)
            duration.count, duration.ns = count, count * each_ns
        return response


@contextmanager
def grpc_server(
    infer: Infer = echo,
    options: tuple[tuple[str, int], ...] = (),
    *,
    credentials: grpc.ServerCredentials | None = None,
    compression: grpc.Compression | None = None,
    more: Mapping[str, tuple[Callable[..., Any], Any]] | None = None,
    stream: Converse | None = None,
    decoupled: bool = False,
) -> Iterator[int]:
    """The port of a server with these options of grpc core; over TLS where it has credentials.

    ``more`` are further methods by name, each with the type of its request; ``stream`` is ModelStreamInfer.
    """
    counted = Counted(infer)
    methods = {
        "ModelInfer": (counted.infer, pb.ModelInferRequest),
        "ModelMetadata": (_metadata, pb.ModelMetadataRequest),
        "ModelConfig": (partial(_config, decoupled), pb.ModelConfigRequest),
        "ModelStatistics": (counted.statistics, pb.ModelStatisticsRequest),
        **(more or {}),
    }
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(
            method,
            request_deserializer=kind.FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )
        for name, (method, kind) in methods.items()
    }
    if stream is not None:
        handlers["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(
            stream,
            request_deserializer=pb.ModelInferRequest.FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )
    with ThreadPoolExecutor(max_workers=24 if stream else 4) as pool:
        server = grpc.server(pool, options=(("grpc.so_reuseport", 0), *options), compression=compression)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        port = (
            server.add_secure_port("127.0.0.1:0", credentials)
            if credentials
            else server.add_insecure_port("127.0.0.1:0")
        )
        server.start()
        try:
            yield port
        finally:
            server.stop(None).wait()
