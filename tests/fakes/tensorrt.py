"""TensorRT as its documentation has it, for plans that are JSON: each output is its input times a factor.

A stream keeps what it is asked to do until somebody waits for it, as a device would at worst, and addresses are those
of memory of this process. So what is read too early or kept too short shows as a wrong answer.
"""

import ctypes
import json
from collections.abc import Callable, Sequence
from enum import Enum
from types import SimpleNamespace
from typing import Any

import numpy as np

VERSION = "10.9"
STREAMS: dict[int, "FakeStream"] = {}


class FakeStream:
    """A DeviceStream whose device is this process."""

    def __init__(self, device: int) -> None:
        self.device = device
        self.handle = 1000 + len(STREAMS)
        self.is_closed = False
        self._memory: dict[int, np.ndarray] = {}
        self._host: list[np.ndarray] = []
        self._tasks: list[Callable[[], None]] = []
        self.marks: list[int] = []
        STREAMS[self.handle] = self

    @property
    def held(self) -> int:
        return len(self._memory)

    def allocate(self, byte_size: int) -> int:
        memory = np.full(byte_size, 0xEE, np.uint8)
        self._memory[memory.ctypes.data] = memory
        return memory.ctypes.data

    def free(self, pointer: int) -> None:
        self._memory.pop(pointer)

    def allocate_host(self, byte_size: int) -> np.ndarray:
        self._host.append(np.full(byte_size, 0xDD, np.uint8))
        return self._host[-1]

    def to_device(self, pointer: int, host: np.ndarray) -> None:
        self.push(lambda: ctypes.memmove(pointer, host.ctypes.data, host.nbytes))

    def to_host(self, host: np.ndarray, pointer: int) -> None:
        self.push(lambda: ctypes.memmove(host.ctypes.data, pointer, host.nbytes))

    def within(self, pointer: int, source: int, byte_size: int) -> None:
        self.push(lambda: ctypes.memmove(pointer, source, byte_size))

    def mark(self, number: int) -> None:
        self.marks.append(number)

    def push(self, task: Callable[[], Any]) -> None:
        self._tasks.append(task)

    def synchronize(self) -> None:
        while self._tasks:
            self._tasks.pop(0)()

    def between_ns(self, first: int, second: int) -> int:
        return (second - first) * 10

    def close(self) -> None:
        self.is_closed = True


class DataType(Enum):
    FLOAT = 0
    HALF = 1
    INT32 = 3
    FP8 = 6


_NUMPY = {DataType.FLOAT: np.dtype(np.float32), DataType.HALF: np.dtype(np.float16), DataType.INT32: np.dtype(np.int32)}


class TensorIOMode(Enum):
    NONE = 0
    INPUT = 1
    OUTPUT = 2


class ILogger:
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)


class Runtime:
    def __init__(self, logger: Any) -> None:
        self._logger = logger

    def deserialize_cuda_engine(self, data: bytes) -> "Engine | None":
        try:
            plan = json.loads(data)
        except ValueError:
            self._logger.log(ILogger.ERROR, "IRuntime::deserializeCudaEngine: Error Code 1:\n magic tag does not match")
            return None
        if plan["version"] != VERSION:
            self._logger.log(ILogger.ERROR, f"engine version {plan['version']} is not {VERSION}")
            return None
        return Engine(plan)


class Engine:
    def __init__(self, plan: dict[str, Any]) -> None:
        self.plan = plan
        self._tensors = {tensor["name"]: tensor for tensor in plan["tensors"]}
        self.num_io_tensors = len(self._tensors)
        self.num_optimization_profiles = len(plan["profiles"])

    def get_tensor_name(self, number: int) -> str:
        return list(self._tensors)[number]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode[self._tensors[name]["mode"]]

    def get_tensor_dtype(self, name: str) -> DataType:
        return DataType[self._tensors[name]["type"]]

    def get_tensor_shape(self, name: str) -> Sequence[int]:
        return self._tensors[name]["shape"]

    def is_shape_inference_io(self, name: str) -> bool:
        return bool(self._tensors[name].get("is_shape"))

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[Sequence[int]]:
        return self.plan["profiles"][profile][name]

    def create_execution_context(self) -> "Context | None":
        return None if self.plan.get("is_full") else Context(self)


class Context:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._profile = 0
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}

    def set_optimization_profile_async(self, profile: int, stream: int) -> bool:
        self._profile = profile
        return stream in STREAMS

    def set_input_shape(self, name: str, shape: Sequence[int]) -> bool:
        least, _, most = self._engine.get_tensor_profile_shape(name, self._profile)
        self._shapes[name] = tuple(shape)
        return all(low <= size <= high for low, size, high in zip(least, shape, most))

    def get_tensor_shape(self, name: str) -> Sequence[int]:
        source = self._engine._tensors[name].get("source")
        return self._shapes[source] if source else [-1]

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        for name, tensor in self._engine._tensors.items():
            if tensor["mode"] == "OUTPUT":
                self._push(STREAMS[stream], name, tensor)
        return True

    def _push(self, stream: FakeStream, name: str, tensor: dict[str, Any]) -> None:
        source, target = self._addresses[tensor["source"]], self._addresses[name]
        shape, dtype = self._shapes[tensor["source"]], _NUMPY[DataType[tensor["type"]]]

        def compute() -> None:
            size = int(np.prod(shape)) * dtype.itemsize
            found = np.frombuffer(ctypes.string_at(source, size), dtype) * dtype.type(tensor["factor"])
            ctypes.memmove(target, found.ctypes.data, size)

        stream.push(compute)


def library(name: str = "tensorrt", version: str = f"{VERSION}.0") -> Any:
    """What ``import tensorrt`` gives."""
    classes = {"Runtime": Runtime, "ILogger": ILogger, "TensorIOMode": TensorIOMode, "DataType": DataType}
    plugins = {"init_libnvinfer_plugins": lambda logger, namespace: True}
    return SimpleNamespace(__name__=name, __version__=version, **classes, **plugins)


def plan(rows: tuple[int, int] = (1, 8), *more_rows: tuple[int, int], **changes: object) -> bytes:
    """x of FP32 [rows, 4] to doubled (FP32) and a profile for each range of rows."""
    profiles = [{"x": [[least, 4], [least, 4], [most, 4]]} for least, most in (rows, *more_rows)]
    tensors = [
        {"name": "x", "mode": "INPUT", "type": "FLOAT", "shape": [-1, 4]},
        {"name": "y", "mode": "OUTPUT", "type": "FLOAT", "shape": [-1, 4], "source": "x", "factor": 2},
    ]
    return json.dumps({"version": VERSION, "tensors": tensors, "profiles": profiles, **changes}).encode()
