"""gRPC calls of Triton's extensions beside inference: shared memory regions, log and trace settings."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from google.protobuf.message import DecodeError, Message
from tritonclient.grpc import service_pb2

from analyzer.runtime.grpc_call import GrpcCall, Method
from analyzer.runtime.log_settings import LogSettings
from analyzer.runtime.shared_memory import SharedMemory
from analyzer.runtime.tracing import Tracing
from analyzer.runtime.wire import Buffer, invalid

_M = TypeVar("_M", bound=Message)


def unary(kind: type[_M], answer: Callable[[_M], Message]) -> Method:
    """A call that is answered at once."""

    def start(call: GrpcCall, message: Buffer) -> None:
        call.respond([answer(parsed(kind, message)).SerializeToString()])

    return Method(start)


def parsed(kind: type[_M], message: Buffer) -> _M:
    """Raises InferError."""
    try:
        return kind.FromString(bytes(message))
    except DecodeError:
        raise invalid(f"the message is not a valid {kind.DESCRIPTOR.name}") from None


def shared_memory_methods(memory: SharedMemory) -> dict[str, Method]:
    pb = service_pb2

    def status(request: Any) -> Any:
        answer = pb.SystemSharedMemoryStatusResponse()
        for item in memory.status(request.name):
            region = answer.regions[item.name]
            region.name, region.key, region.offset, region.byte_size = item.name, item.key, item.offset, item.byte_size
        return answer

    def register(request: Any) -> Any:
        memory.register(request.name, request.key, request.offset, request.byte_size)
        return pb.SystemSharedMemoryRegisterResponse()

    def unregister(request: Any) -> Any:
        memory.unregister(request.name)
        return pb.SystemSharedMemoryUnregisterResponse()

    def cuda_status(request: Any) -> Any:
        answer = pb.CudaSharedMemoryStatusResponse()
        for item in memory.cuda_status(request.name):
            region = answer.regions[item.name]
            region.name, region.device_id, region.byte_size = item.name, item.device, item.byte_size
        return answer

    def cuda_register(request: Any) -> Any:
        memory.register_cuda(request.name, request.raw_handle, request.device_id, request.byte_size)
        return pb.CudaSharedMemoryRegisterResponse()

    def cuda_unregister(request: Any) -> Any:
        memory.unregister_cuda(request.name)
        return pb.CudaSharedMemoryUnregisterResponse()

    return {
        "SystemSharedMemoryStatus": unary(pb.SystemSharedMemoryStatusRequest, status),
        "SystemSharedMemoryRegister": unary(pb.SystemSharedMemoryRegisterRequest, register),
        "SystemSharedMemoryUnregister": unary(pb.SystemSharedMemoryUnregisterRequest, unregister),
        "CudaSharedMemoryStatus": unary(pb.CudaSharedMemoryStatusRequest, cuda_status),
        "CudaSharedMemoryRegister": unary(pb.CudaSharedMemoryRegisterRequest, cuda_register),
        "CudaSharedMemoryUnregister": unary(pb.CudaSharedMemoryUnregisterRequest, cuda_unregister),
    }


def setting_methods(log: LogSettings, tracing: Tracing) -> dict[str, Method]:
    pb = service_pb2

    def log_settings(request: Any) -> Any:
        log.change(
            {
                name: getattr(value, value.WhichOneof("parameter_choice") or "string_param")
                for name, value in request.settings.items()
            }
        )
        answer = pb.LogSettingsResponse()
        for name, value in log.settings().items():
            field = {bool: "bool_param", int: "uint32_param", str: "string_param"}[type(value)]
            setattr(answer.settings[name], field, value)
        return answer

    def trace_settings(request: Any) -> Any:
        tracing.change(
            {name: _trace_value(name, given.value) for name, given in request.settings.items()}, request.model_name
        )
        answer = pb.TraceSettingResponse()
        for name, told in tracing.settings(request.model_name).items():
            answer.settings[name].value.extend(told if isinstance(told, list) else [told])
        return answer

    return {
        "LogSettings": unary(pb.LogSettingsRequest, log_settings),
        "TraceSetting": unary(pb.TraceSettingRequest, trace_settings),
    }


def _trace_value(name: str, values: Sequence[str]) -> str | list[str] | None:
    """Without a value the setting is taken back."""
    if not values:
        return None
    if name == "trace_level":
        return list(values)
    if len(values) > 1:
        raise invalid(f"expect only 1 value for '{name}'")
    return values[0]
