"""The shared-memory extension on a real grpcio server: it reads inputs from, and writes outputs to, /dev/shm."""

from dataclasses import dataclass, field
from pathlib import Path

import grpc
import numpy as np
from tritonclient.grpc import service_pb2 as pb


@dataclass
class MemoryServer:
    """``regions`` are those registered now, ``seen`` the inputs of each inference."""

    refuses: bool = False
    regions: dict[str, str] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    seen: list[bytes] = field(default_factory=list)

    def methods(self) -> dict[str, tuple[object, object]]:
        return {
            "SystemSharedMemoryRegister": (self._register, pb.SystemSharedMemoryRegisterRequest),
            "SystemSharedMemoryUnregister": (self._unregister, pb.SystemSharedMemoryUnregisterRequest),
        }

    def _register(self, request: pb.SystemSharedMemoryRegisterRequest, context: grpc.ServicerContext):
        if self.refuses:
            context.abort(grpc.StatusCode.INTERNAL, "no room for regions")
        assert len(_file(request.key).read_bytes()) == request.byte_size
        self.regions[request.name] = request.key
        self.names.append(request.name)
        return pb.SystemSharedMemoryRegisterResponse()

    def _unregister(self, request: pb.SystemSharedMemoryUnregisterRequest, context: grpc.ServicerContext):
        del self.regions[request.name]
        return pb.SystemSharedMemoryUnregisterResponse()

    def infer(self, request: pb.ModelInferRequest, context: grpc.ServicerContext) -> pb.ModelInferResponse:
        """Doubles the input into the output."""
        assert not request.raw_input_contents
        data = self._read(request.inputs[0].parameters)
        self.seen.append(data)
        place = request.outputs[0].parameters
        with _file(self.regions[place["shared_memory_region"].string_param]).open("r+b") as file:
            file.seek(place["shared_memory_offset"].int64_param)
            file.write((np.frombuffer(data, np.float32) * 2).tobytes())
        return pb.ModelInferResponse(model_name=request.model_name)

    def _read(self, place) -> bytes:
        content = _file(self.regions[place["shared_memory_region"].string_param]).read_bytes()
        start = place["shared_memory_offset"].int64_param
        return content[start : start + place["shared_memory_byte_size"].int64_param]


def _file(key: str) -> Path:
    return Path("/dev/shm") / key.removeprefix("/")
