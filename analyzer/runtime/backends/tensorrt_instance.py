"""Requests through one stream of a TensorRT engine and back: one wait for the device a batch."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from time import monotonic_ns
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.runtime.backends.base import Answers, Execution, OutputCheck
from analyzer.runtime.backends.tensor_batch import scatter
from analyzer.runtime.backends.tensorrt_engine import Engine, EngineTensor, Profile, Shape
from analyzer.runtime.backends.tensorrt_stream import DeviceStream
from analyzer.runtime.device_tensor import on_device
from analyzer.runtime.dtypes import NUMPY_DTYPES
from analyzer.runtime.request import ErrorKind, InferError, Tensors

Array = NDArray[np.generic]
_INPUTS_THERE, _COMPUTED, _FETCHED = range(3)


@dataclass(frozen=True, slots=True)
class Context:
    """An execution context, and the profile that it is set to."""

    context: Any
    profile: Profile


class TensorrtInstance:
    takes_device_tensors = True

    def __init__(
        self, model: str, engine: Engine, contexts: Sequence[Context], stream: DeviceStream, check: OutputCheck
    ) -> None:
        self._model = model
        self._engine: Engine | None = engine
        self._contexts = list(contexts)
        self._stream = stream
        self._check = check
        self._device: dict[str, tuple[int, int]] = {}
        self._host: dict[str, NDArray[np.uint8]] = {}

    def execute(self, execution: Execution) -> Answers:
        assert self._engine is not None
        # Nothing is left to wait for, unless the last batch failed halfway.
        self._stream.synchronize()
        parts = {
            tensor.name: [request.inputs[tensor.name] for request in execution.requests]
            for tensor in self._engine.inputs
        }
        shapes = {name: _joined_shape(arrays) for name, arrays in parts.items()}
        context = self._choose(shapes)
        for name, arrays in parts.items():
            self._must(context.set_input_shape(name, shapes[name]), f"refuses the shape of input '{name}'")
            self._must(context.set_tensor_address(name, self._send(name, arrays)), f"refuses input '{name}'")
        self._stream.mark(_INPUTS_THERE)
        targets = {tensor.name: self._place(context, tensor) for tensor in self._engine.outputs}
        self._must(context.execute_async_v3(self._stream.handle), "could not start this batch")
        self._stream.mark(_COMPUTED)
        for name, staged in targets.items():
            self._stream.to_host(staged, self._device[name][0])
        self._stream.mark(_FETCHED)
        self._stream.synchronize()
        self._stamp(execution)
        outputs: Tensors = {name: staged.copy() for name, staged in targets.items()}
        return scatter(self._check.select(outputs), execution.rows)

    def close(self) -> None:
        self._contexts.clear()
        self._engine = None
        for pointer, _ in self._device.values():
            self._stream.free(pointer)
        self._device.clear()
        self._host.clear()
        self._stream.close()

    def _choose(self, shapes: dict[str, Shape]) -> Any:
        for item in self._contexts:
            if item.profile.fits(shapes):
                return item.context
        text = ", ".join(f"'{name}' {list(shape)}" for name, shape in shapes.items())
        raise InferError(
            ErrorKind.INVALID_ARGUMENT,
            f"no optimization profile of model '{self._model}' takes inputs of the shape {text}",
        )

    def _send(self, name: str, parts: Sequence[Array]) -> int:
        """The address of an input on the device. One that is there already stays where it is."""
        held = on_device(parts[0])
        if len(parts) == 1 and held is not None and held.device == self._stream.device:
            return held.pointer
        byte_size = sum(part.nbytes for part in parts)
        pointer, staged = self._device_memory(name, byte_size), self._host_memory(name, byte_size)
        start = 0
        for part in parts:
            end, held = start + part.nbytes, on_device(part)
            if held is not None and held.device == self._stream.device:
                self._stream.within(pointer + start, held.pointer, part.nbytes)
            else:
                array = part if held is None else held.to_host()
                np.copyto(staged[start:end].view(array.dtype).reshape(array.shape), array)
                self._stream.to_device(pointer + start, staged[start:end])
            start = end
        return pointer

    def _place(self, context: Any, tensor: EngineTensor) -> Array:
        """Memory for an output on the device, and on the host, in its shape."""
        shape = tuple(context.get_tensor_shape(tensor.name))
        if min(shape, default=0) < 0:
            text = (
                f"output '{tensor.name}' of model '{self._model}' has a shape that depends on the data, {list(shape)}"
            )
            raise InferError(ErrorKind.UNIMPLEMENTED, f"{text}; this backend does not support that")
        dtype = NUMPY_DTYPES[tensor.datatype]
        byte_size = prod(shape) * dtype.itemsize
        pointer = self._device_memory(tensor.name, byte_size)
        self._must(context.set_tensor_address(tensor.name, pointer), f"refuses output '{tensor.name}'")
        return self._host_memory(tensor.name, byte_size)[:byte_size].view(dtype).reshape(shape)

    def _device_memory(self, name: str, byte_size: int) -> int:
        pointer, room_bytes = self._device.get(name, (0, 0))
        if room_bytes < byte_size or not pointer:
            if pointer:
                self._stream.free(pointer)
            self._device.pop(name, None)
            room_bytes = _room(byte_size)
            pointer = self._stream.allocate(room_bytes)
            self._device[name] = pointer, room_bytes
        return pointer

    def _host_memory(self, name: str, byte_size: int) -> NDArray[np.uint8]:
        held = self._host.get(name)
        if held is None or held.nbytes < byte_size:
            held = self._host[name] = self._stream.allocate_host(_room(byte_size))
        return held

    def _stamp(self, execution: Execution) -> None:
        now_ns = monotonic_ns()
        since_input_ns = self._stream.between_ns(_INPUTS_THERE, _FETCHED)
        since_infer_ns = self._stream.between_ns(_COMPUTED, _FETCHED)
        execution.input_end_ns = max(execution.start_ns, now_ns - since_input_ns)
        execution.infer_end_ns = max(execution.start_ns, now_ns - since_infer_ns)

    def _must(self, done: bool, what: str) -> None:
        if not done:
            raise InferError(ErrorKind.INTERNAL, f"TensorRT {what} of model '{self._model}'")


def _joined_shape(parts: Sequence[Array]) -> Shape:
    first = tuple(parts[0].shape)
    return first if len(parts) == 1 else (sum(part.shape[0] for part in parts), *first[1:])


def _room(byte_size: int) -> int:
    """The next power of two: batches that grow row by row must not each leave memory behind."""
    return 1 << max(8, (byte_size - 1).bit_length())
