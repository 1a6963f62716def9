"""gRPC calls of Triton's extensions beside inference: shared memory regions."""

from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from google.protobuf.message import DecodeError, Message
from tritonclient.grpc import service_pb2

from analyzer.runtime.grpc_call import GrpcCall, Method
from analyzer.runtime.request import ErrorKind, InferError
from analyzer.runtime.shared_memory import SystemMemory, refuse_cuda
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


def shared_memory_methods(memory: SystemMemory) -> dict[str, Method]:
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

    return {
        "SystemSharedMemoryStatus": unary(pb.SystemSharedMemoryStatusRequest, status),
        "SystemSharedMemoryRegister": unary(pb.SystemSharedMemoryRegisterRequest, register),
        "SystemSharedMemoryUnregister": unary(pb.SystemSharedMemoryUnregisterRequest, unregister),
        "CudaSharedMemoryStatus": unary(pb.CudaSharedMemoryStatusRequest, _cuda_status),
        "CudaSharedMemoryRegister": unary(pb.CudaSharedMemoryRegisterRequest, _cuda_register),
        "CudaSharedMemoryUnregister": unary(
            pb.CudaSharedMemoryUnregisterRequest, lambda _: pb.CudaSharedMemoryUnregisterResponse()
        ),
    }


def _cuda_status(request: Any) -> Any:
    if request.name:
        raise InferError(ErrorKind.NOT_FOUND, f"Unable to find cuda shared memory region: '{request.name}'")
    return service_pb2.CudaSharedMemoryStatusResponse()


def _cuda_register(request: Any) -> NoReturn:
    refuse_cuda(request.name)
