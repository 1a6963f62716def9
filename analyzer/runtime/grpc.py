"""The calls of inference.GRPCInferenceService over one model store, on our own HTTP/2 path.

A grpcio server answers some thousand small calls a CPU-second, frames handled on the event loop many times that.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial

from google.protobuf.message import DecodeError, Message
from tritonclient.grpc import service_pb2

from analyzer.runtime.body_memory import BodyMemory
from analyzer.runtime.delivery import delivering
from analyzer.runtime.grpc_call import GrpcCall, GrpcHead, Method, read_head
from analyzer.runtime.grpc_extensions import parsed, setting_methods, shared_memory_methods, unary
from analyzer.runtime.header_memo import Headers
from analyzer.runtime.http2 import Http2Connection
from analyzer.runtime.http2_writer import Http2Writer
from analyzer.runtime.intake import Intake
from analyzer.runtime.log_settings import LogSettings
from analyzer.runtime.model_store import ModelStore
from analyzer.runtime.overlay import read_override
from analyzer.runtime.request import ErrorKind, InferError, InferRequest, InferResponse, Reply
from analyzer.runtime.request_parameters import EMPTY_FINAL
from analyzer.runtime.server_info import EXTENSIONS, SERVER_NAME, server_version
from analyzer.runtime.shared_memory import SharedMemory
from analyzer.runtime.tracing import Tracing
from analyzer.runtime.wire import Buffer, invalid
from analyzer.runtime.wire_proto import RequestDecoder, ResponseEncoder

_SERVICE = "/inference.GRPCInferenceService/"


class GrpcSite:
    """What all connections of the gRPC port share. ``control`` allows loading and unloading."""

    def __init__(
        self,
        store: ModelStore,
        *,
        control: bool,
        message_limit_bytes: int,
        memory: SharedMemory | None = None,
        log: LogSettings | None = None,
        intake: Intake | None = None,
        connection_limit: int = 0,
        tracing: Tracing | None = None,
        bodies: BodyMemory | None = None,
    ) -> None:
        self._bodies = bodies or BodyMemory()
        self.connections: set[Http2Connection[GrpcHead]] = set()
        self.connection_limit = connection_limit
        self.accepting = True
        self._store = store
        self._intake = intake or Intake(store)
        self._control = control
        self._limit_bytes = message_limit_bytes
        self._memory = memory or SharedMemory()
        self._tracing = tracing or Tracing(store.signature, store.is_ready)
        self._decode = RequestDecoder(self._memory).decode
        self._encode = ResponseEncoder().encode
        self._tasks: set[asyncio.Task[None]] = set()
        pb = service_pb2
        methods = {
            "ModelInfer": Method(self._infer),
            "ModelStreamInfer": Method(self._stream_infer, streaming=True),
            "ServerLive": unary(pb.ServerLiveRequest, self._live),
            "ServerReady": unary(pb.ServerReadyRequest, self._ready),
            "ModelReady": unary(pb.ModelReadyRequest, self._model_ready),
            "ServerMetadata": unary(pb.ServerMetadataRequest, self._server),
            "ModelMetadata": unary(pb.ModelMetadataRequest, lambda r: store.metadata(r.name, r.version)),
            "ModelConfig": unary(pb.ModelConfigRequest, self._config),
            "ModelStatistics": unary(pb.ModelStatisticsRequest, self._statistics),
            "RepositoryIndex": unary(pb.RepositoryIndexRequest, self._index),
            "RepositoryModelLoad": Method(self._load),
            "RepositoryModelUnload": Method(self._unload),
            **shared_memory_methods(self._memory),
            **setting_methods(log or LogSettings(), self._tracing),
        }
        self._methods = {f"{_SERVICE}{name}".encode(): method for name, method in methods.items()}

    def connection(self) -> Http2Connection[GrpcHead]:
        return Http2Connection(self)

    def read(self, headers: Headers) -> GrpcHead:
        return read_head(self._methods, headers)

    def begin(self, writer: Http2Writer, stream_id: int, head: GrpcHead) -> GrpcCall:
        return GrpcCall(writer, stream_id, head, self._limit_bytes, self._bodies)

    def drain(self) -> None:
        """Closes every connection as soon as its calls are answered."""
        for connection in list(self.connections):
            connection.drain()

    def abort(self) -> None:
        for connection in list(self.connections):
            connection.abort()

    def _live(self, _request: service_pb2.ServerLiveRequest) -> service_pb2.ServerLiveResponse:
        return service_pb2.ServerLiveResponse(live=True)

    def _ready(self, _request: service_pb2.ServerReadyRequest) -> service_pb2.ServerReadyResponse:
        return service_pb2.ServerReadyResponse(ready=self.accepting and self._store.all_ready())

    def _model_ready(self, request: service_pb2.ModelReadyRequest) -> service_pb2.ModelReadyResponse:
        ready = self.accepting and self._store.is_ready(request.name, request.version)
        return service_pb2.ModelReadyResponse(ready=ready)

    def _server(self, _request: service_pb2.ServerMetadataRequest) -> service_pb2.ServerMetadataResponse:
        return service_pb2.ServerMetadataResponse(name=SERVER_NAME, version=server_version(), extensions=EXTENSIONS)

    def _config(self, request: service_pb2.ModelConfigRequest) -> service_pb2.ModelConfigResponse:
        return service_pb2.ModelConfigResponse(config=self._store.config(request.name, request.version))

    def _statistics(self, request: service_pb2.ModelStatisticsRequest) -> service_pb2.ModelStatisticsResponse:
        entries = self._store.statistics(request.name, request.version)
        return service_pb2.ModelStatisticsResponse(model_stats=entries)

    def _index(self, request: service_pb2.RepositoryIndexRequest) -> service_pb2.RepositoryIndexResponse:
        models = [model for model in self._store.index() if not request.ready or model.state == "READY"]
        return service_pb2.RepositoryIndexResponse(models=models)

    def _load(self, call: GrpcCall, message: Buffer) -> None:
        request = parsed(service_pb2.RepositoryModelLoadRequest, message)
        given = {
            name: getattr(value, value.WhichOneof("parameter_choice") or "string_param")
            for name, value in request.parameters.items()
        }
        override = read_override(given)
        work = partial(self._store.load, request.model_name, override)
        self._run_control(call, work, service_pb2.RepositoryModelLoadResponse())

    def _unload(self, call: GrpcCall, message: Buffer) -> None:
        request = parsed(service_pb2.RepositoryModelUnloadRequest, message)
        with_called = request.parameters["unload_dependents"].bool_param
        work = partial(self._store.unload, request.model_name, with_called=with_called)
        self._run_control(call, work, service_pb2.RepositoryModelUnloadResponse())

    def _run_control(self, call: GrpcCall, work: Callable[[], Awaitable[None]], answer: Message) -> None:
        if not self._control:
            raise InferError(
                ErrorKind.UNAVAILABLE, "explicit model load / unload needs a server with --model-control-mode explicit"
            )
        task = asyncio.ensure_future(_answer_when_done(call, work, answer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _infer(self, call: GrpcCall, message: Buffer) -> None:
        arrival_ns = time.monotonic_ns()
        if self._intake.limit:
            self._intake.check()
        request = self._decoded(message, arrival_ns)
        self._submit(call, request, partial(self._answer_infer, call))

    def _submit(self, call: GrpcCall, request: InferRequest, reply: Reply) -> None:
        if request.deliveries:
            reply = delivering(request, reply, self._memory, self._store.signature)
        if self._tracing.is_on:
            self._tracing.submit(self._intake.submit, "GRPC", request, reply)
        else:
            self._intake.submit(request, reply)
        call.track(request)

    def _decoded(self, message: Buffer, arrival_ns: int) -> InferRequest:
        try:
            return self._decode(message, arrival_ns)
        except DecodeError:
            raise invalid("the message is not a valid ModelInferRequest") from None

    def _answer_infer(self, call: GrpcCall, response: InferResponse | InferError) -> None:
        if isinstance(response, InferError):
            call.fail(response)
            return
        try:
            call.respond(self._encode(response, self._output_datatype))
        except InferError as error:
            call.fail(error)

    def _stream_infer(self, call: GrpcCall, message: Buffer) -> None:
        arrival_ns = time.monotonic_ns()
        try:
            self._intake.check()
            request = self._decoded(message, arrival_ns)
            request.accepts_stream = True
            self._submit(call, request, partial(self._answer_stream, call, request))
        except InferError as error:
            call.send([_stream_error(service_pb2.ModelInferResponse(id=_id_of(message)), error)], None)

    def _answer_stream(self, call: GrpcCall, request: InferRequest, response: InferResponse | InferError) -> None:
        """A failed request does not end the stream: its answer says what was wrong, and carries the request's id.

        An answer that only says that no more will come is for those who asked for it.
        """
        if isinstance(response, InferError):
            call.send([_stream_error(_last_of(request), response)], request, final=True)
            return
        tells_end = request.parameters.get(EMPTY_FINAL) is True
        if response.final and not response.outputs and not tells_end:
            call.answered(request)
            return
        try:
            response.parameters = {**response.parameters, "triton_final_response": response.final}
            parts = self._encode(response, self._output_datatype)
            answer = service_pb2.ModelStreamInferResponse()
            answer.infer_response.MergeFromString(b"".join(parts))
            encoded = answer.SerializeToString()
        except InferError as error:
            encoded = _stream_error(_last_of(request), error)
        call.send([encoded], request, final=response.final)

    def _output_datatype(self, response: InferResponse, name: str) -> str:
        return self._store.outputs(response.model, response.version)[name].datatype


def _id_of(message: Buffer) -> str:
    """Of a request that may be wrong in all else: who sent it finds it by its id."""
    try:
        return str(service_pb2.ModelInferRequest.FromString(bytes(message)).id)
    except DecodeError:
        return ""


def _last_of(request: InferRequest) -> service_pb2.ModelInferResponse:
    last = service_pb2.ModelInferResponse(model_name=request.model, id=request.id)
    last.parameters["triton_final_response"].bool_param = True
    return last


def _stream_error(answered: service_pb2.ModelInferResponse, error: InferError) -> bytes:
    answer = service_pb2.ModelStreamInferResponse(error_message=error.message, infer_response=answered)
    encoded: bytes = answer.SerializeToString()
    return encoded


async def _answer_when_done(call: GrpcCall, work: Callable[[], Awaitable[None]], answer: Message) -> None:
    try:
        await work()
    except InferError as error:
        call.fail(error)
    else:
        call.respond([answer.SerializeToString()])
