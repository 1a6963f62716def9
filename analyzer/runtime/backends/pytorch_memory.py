"""Requests to tensors where the model computes, and results back: on the host, or through pinned memory to a GPU."""

from collections.abc import Sequence
from time import monotonic_ns
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from analyzer.runtime.backends.base import Execution
from analyzer.runtime.backends.pytorch_library import DTYPES, datatype_of_torch, torch
from analyzer.runtime.backends.pytorch_run import TorchTensors
from analyzer.runtime.device_tensor import DeviceTensor, as_array, on_device
from analyzer.runtime.request import InferRequest, Tensors

Array = NDArray[np.generic]


class Memory(Protocol):
    """``datatypes`` of inputs are KServe names."""

    def gather(self, requests: Sequence[InferRequest]) -> TorchTensors:
        """The inputs of all requests, joined along the batch dimension. What a model writes to them reaches nobody."""
        ...

    def fetch(self, outputs: TorchTensors, kept: frozenset[str]) -> Tensors:
        """Outputs as arrays that no later run changes; those in ``kept`` may stay on the device."""
        ...

    def stamp(self, execution: Execution) -> None:
        """Notes when the inputs were there and the outputs computed, once all is done."""
        ...


class HostMemory:
    def __init__(self, datatypes: dict[str, str], kept_storages: frozenset[int]) -> None:
        """``kept_storages`` are those of the model's own tensors: an output that lies in one is copied."""
        self._datatypes = datatypes
        self._kept_storages = kept_storages
        self._input_end_ns = 0
        self._infer_end_ns = 0

    def gather(self, requests: Sequence[InferRequest]) -> TorchTensors:
        first = requests[0].inputs
        if len(requests) == 1:
            arrays = {name: np.array(array, order="C") for name, array in first.items()}
        else:
            arrays = {name: np.concatenate([request.inputs[name] for request in requests]) for name in first}
        tensors = {name: _as_tensor(array, self._datatypes[name]) for name, array in arrays.items()}
        self._input_end_ns = monotonic_ns()
        return tensors

    def fetch(self, outputs: TorchTensors, kept: frozenset[str]) -> Tensors:
        self._infer_end_ns = monotonic_ns()
        return {name: _as_array(self._own(tensor.detach())) for name, tensor in outputs.items()}

    def stamp(self, execution: Execution) -> None:
        execution.input_end_ns, execution.infer_end_ns = self._input_end_ns, self._infer_end_ns

    def _own(self, tensor: Any) -> Any:
        return tensor.clone() if tensor.data_ptr() in self._kept_storages else tensor.contiguous()


class Streams:
    """Streams that no instance has any more go to the next one on the device: cuBLAS keeps 32 MiB for each it saw."""

    def __init__(self) -> None:
        self._free: dict[str, list[Any]] = {}

    def take(self, device: str) -> Any:
        free = self._free.setdefault(device, [])
        return free.pop() if free else torch.cuda.Stream(device)

    def give_back(self, stream: Any) -> None:
        self._free.setdefault(str(stream.device), []).append(stream)


STREAMS = Streams()


class CudaMemory:
    """Copies run on the instance's own stream, and the host waits once a batch, in ``fetch``."""

    def __init__(self, datatypes: dict[str, str], stream: Any, cleans_cache: bool) -> None:
        """``cleans_cache``: what PyTorch keeps for later goes back to the device after every batch."""
        self._datatypes = datatypes
        self._cleans_cache = cleans_cache
        self.stream = stream
        self._staging: dict[str, Any] = {}
        self._inputs_there, self._computed, self._fetched = (torch.cuda.Event(enable_timing=True) for _ in range(3))
        self._fetched_ns = 0

    def gather(self, requests: Sequence[InferRequest]) -> TorchTensors:
        # Nothing is left to wait for, unless the last batch failed halfway: its copies still read the staging memory.
        self.stream.synchronize()
        tensors = {
            name: self._join(name, [request.inputs[name] for request in requests]) for name in requests[0].inputs
        }
        self._inputs_there.record(self.stream)
        return tensors

    def fetch(self, outputs: TorchTensors, kept: frozenset[str]) -> Tensors:
        self._computed.record(self.stream)
        fetched = {
            name: tensor.detach().clone(memory_format=torch.contiguous_format)
            if name in kept and tensor.is_cuda
            else _to_host(tensor)
            for name, tensor in outputs.items()
        }
        self._fetched.record(self.stream)
        self._fetched.synchronize()
        self._fetched_ns = monotonic_ns()
        return {name: _on_device(tensor) if tensor.is_cuda else _as_array(tensor) for name, tensor in fetched.items()}

    def stamp(self, execution: Execution) -> None:
        for field, event in (("input_end_ns", self._inputs_there), ("infer_end_ns", self._computed)):
            since_ns = int(event.elapsed_time(self._fetched) * 1e6)
            setattr(execution, field, max(execution.start_ns, self._fetched_ns - since_ns))
        if self._cleans_cache:
            torch.cuda.empty_cache()

    def _join(self, name: str, parts: Sequence[Array]) -> Any:
        shape = (sum(part.shape[0] for part in parts), *parts[0].shape[1:]) if len(parts) > 1 else parts[0].shape
        datatype = self._datatypes[name]
        joined = torch.empty(shape, dtype=DTYPES[datatype], device=self.stream.device)
        staged = self._staged(name, joined, datatype)
        start = 0
        for part in parts:
            end = start + part.shape[0] if len(parts) > 1 else None
            rows = ... if end is None else slice(start, end)
            held = on_device(part)
            if held is not None:
                joined[rows].copy_(_of_device(held), non_blocking=True)
            else:
                np.copyto(_as_array(staged)[rows], part)
                joined[rows].copy_(staged[rows], non_blocking=True)
            start = end or 0
        return joined

    def _staged(self, name: str, like: Any, datatype: str) -> Any:
        """Pinned memory of this input's own, in the shape of the batch."""
        byte_size = like.numel() * like.element_size()
        held = self._staging.get(name)
        if held is None or held.numel() < byte_size:
            held = self._staging[name] = torch.empty(byte_size, dtype=torch.uint8, pin_memory=True)
        return held[:byte_size].view(DTYPES[datatype]).view(like.shape)


class _TorchMemory:
    """A tensor of PyTorch as the memory of a DeviceTensor."""

    def __init__(self, tensor: Any) -> None:
        self._tensor = tensor

    def read(self, pointer: int, byte_size: int) -> memoryview:
        start = pointer - self._tensor.data_ptr()
        raw = self._tensor.reshape(-1).view(torch.uint8)[start : start + byte_size]
        return memoryview(raw.cpu().numpy())


def _on_device(tensor: Any) -> Array:
    byte_size, datatype = tensor.numel() * tensor.element_size(), datatype_of_torch(tensor.dtype)
    device, shape = tensor.device.index, tuple(tensor.shape)
    return as_array(DeviceTensor(tensor.data_ptr(), byte_size, device, datatype, shape, _TorchMemory(tensor)))


def _of_device(held: DeviceTensor) -> Any:
    tensor = torch.as_tensor(held, device=f"cuda:{held.device}")
    return tensor.view(DTYPES[held.datatype])


def _to_host(tensor: Any) -> Any:
    # Pinned memory comes from PyTorch's own cache, to which it returns with the last view of it.
    pinned = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return pinned.copy_(tensor.detach(), non_blocking=True)


def _as_tensor(array: Array, datatype: str) -> Any:
    tensor = torch.from_numpy(array)
    return tensor.view(torch.bfloat16) if datatype == "BF16" else tensor


def _as_array(tensor: Any) -> Array:
    array: Array = (tensor.view(torch.uint16) if tensor.dtype is torch.bfloat16 else tensor).numpy()
    return array
