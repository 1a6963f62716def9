"""An ONNX Runtime instance with IO binding: inputs and outputs lie in the memory of the device that computes."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from analyzer.runtime.backends.base import Answers, Execution, OutputCheck
from analyzer.runtime.backends.fixed_batches import size_for
from analyzer.runtime.backends.onnxruntime_options import SessionPlan
from analyzer.runtime.backends.onnxruntime_session import OpenSession, import_onnxruntime, run_options
from analyzer.runtime.device_tensor import DeviceTensor, as_array, on_device
from analyzer.runtime.request import ErrorKind, InferError, InferRequest, Tensors

_ALIGNMENT_BYTES = 64
"""Kernels read whole vectors; memory of CUDA begins at multiples of more than this, a part of a region may not."""


class Copies(Protocol):
    """Copies to and in a device's memory, each done when its call returns."""

    def to_device(self, pointer: int, device: int, host: np.ndarray[Any, Any]) -> None: ...

    def within(self, pointer: int, device: int, source: int, byte_size: int) -> None: ...


class BoundInstance:
    """An Instance with its inputs and outputs bound in device memory.

    Each input has one staging buffer that the rows of a batch are copied into; a lone request whose tensor lies on the
    device already is read where it lies. Outputs stay on the device where every request of the batch can use them
    there.
    """

    takes_device_tensors = True

    def __init__(
        self,
        model: str,
        sessions: Mapping[int, OpenSession],
        plan: SessionPlan,
        *,
        check: OutputCheck,
        device: "BoundDevice",
    ) -> None:
        """``sessions`` by batch size; with no fixed sizes there is one, of size 0. ``check`` knows the outputs."""
        self._model = model
        self._sessions = dict(sessions)
        self._plan = plan
        self._run_options = run_options(plan)
        self._check = check
        self._device = device
        self._staging: dict[str, Any] = {}

    def execute(self, execution: Execution) -> Answers:
        requests, rows = execution.requests, sum(execution.rows)
        size = size_for(rows, self._plan.batch_sizes)
        opened = self._sessions[size if self._plan.batch_sizes else 0]
        session = opened.current
        binding = session.io_binding()
        for name in requests[0].inputs:
            tensors = [request.inputs[name] for request in requests]
            self._bind_input(binding, name, tensors, size - rows)
            is_whole = len(tensors) == 1 and size == rows
            shape = tensors[0].shape if is_whole else (size, *tensors[0].shape[1:])
            opened.seen[name] = shape, tensors[0].dtype
        execution.input_ended()
        kept = self._kept(requests)
        for name in self._check.dtypes:
            place = (self._device.kind, self._device.number) if name in kept else ("cpu", 0)
            binding.bind_output(name, *place)
        session.run_with_iobinding(binding, self._run_options)
        if kept:
            binding.synchronize_outputs()
        values = zip(self._check.dtypes, binding.get_outputs())
        outputs = {name: self._output(name, value, name in kept) for name, value in values}
        execution.infer_ended()
        return self._scatter(self._check.select(outputs), execution.rows, size)

    def close(self) -> None:
        for session in self._sessions.values():
            session.close()
        self._sessions.clear()
        self._staging.clear()

    def _bind_input(self, binding: Any, name: str, tensors: Sequence[np.ndarray[Any, Any]], missing: int) -> None:
        """The rows of all requests one behind the other, then ``missing`` copies of the first row."""
        first, device = tensors[0], self._device
        lone = on_device(first) if len(tensors) == 1 and not missing else None
        if lone is not None and lone.device == device.number and lone.pointer % _ALIGNMENT_BYTES == 0:
            binding.bind_input(name, device.kind, device.number, lone.dtype, list(lone.shape), lone.pointer)
            return
        row_bytes = first.nbytes // max(1, first.shape[0]) if missing else 0
        total_bytes = sum(tensor.nbytes for tensor in tensors) + missing * row_bytes
        start = at = self._buffer(name, total_bytes)
        for tensor in tensors:
            self._copy(at, tensor)
            at += tensor.nbytes
        for _ in range(missing):
            device.copies.within(at, device.number, start, row_bytes)
            at += row_bytes
        shape = list(first.shape)
        if len(tensors) > 1 or missing:
            shape[0] = sum(tensor.shape[0] for tensor in tensors) + missing
        binding.bind_input(name, device.kind, device.number, first.dtype, shape, start)

    def _buffer(self, name: str, byte_size: int) -> int:
        """The address of an input's staging buffer, made anew where it is too small."""
        buffer = self._staging.get(name)
        if buffer is None or buffer.tensor_size_in_bytes() < byte_size:
            make = import_onnxruntime().OrtValue.ortvalue_from_shape_and_type
            buffer = make([max(1, byte_size)], np.uint8, self._device.kind, self._device.number)
            self._staging[name] = buffer
        address: int = buffer.data_ptr()
        return address

    def _copy(self, pointer: int, tensor: np.ndarray[Any, Any]) -> None:
        device, far = self._device, on_device(tensor)
        if far is not None and far.device == device.number:
            device.copies.within(pointer, device.number, far.pointer, far.byte_size)
        else:
            host = tensor if far is None else far.to_host()
            device.copies.to_device(pointer, device.number, np.ascontiguousarray(host))

    def _kept(self, requests: Sequence[InferRequest]) -> set[str]:
        """The outputs that all requests of the batch take on the device."""
        kept = set(requests[0].keep_on_device)
        for request in requests[1:]:
            kept &= request.keep_on_device
        return kept

    def _output(self, name: str, value: Any, is_kept: bool) -> np.ndarray[Any, Any]:
        if not is_kept:
            array: np.ndarray[Any, Any] = value.numpy()
            return array
        memory = _OrtMemory(value)
        shape, datatype = tuple(value.shape()), self._device.datatypes[name]
        number = self._device.number
        return as_array(DeviceTensor(memory.pointer, memory.byte_size, number, datatype, shape, memory))

    def _scatter(self, outputs: Tensors, rows: Sequence[int], size: int) -> Answers:
        if len(rows) == 1 and size == rows[0]:
            return [outputs]
        answers: list[Tensors] = [{} for _ in rows]
        for name, tensor in outputs.items():
            if not tensor.ndim or tensor.shape[0] != size:
                shape = tuple(tensor.shape)
                raise InferError(ErrorKind.INTERNAL, f"output '{name}' has shape {shape} for a batch of {size} rows")
            at = 0
            for answer, count in zip(answers, rows):
                far = on_device(tensor)
                answer[name] = tensor[at : at + count] if far is None else as_array(far.rows(at, at + count))
                at += count
        return list(answers)


class BoundDevice:
    """Where a BoundInstance works. ``kind`` is ONNX Runtime's name: cuda, or cpu in tests."""

    def __init__(self, kind: str, number: int, copies: Copies, datatypes: Mapping[str, str]) -> None:
        """``datatypes`` are those of the outputs."""
        self.kind = kind
        self.number = number
        self.copies = copies
        self.datatypes = datatypes


class _OrtMemory:
    """Keeps an output of ONNX Runtime alive; brought to the host at most once, however many requests share it."""

    def __init__(self, value: Any) -> None:
        self._value = value
        self._host: memoryview | None = None
        self.pointer: int = value.data_ptr()
        self.byte_size: int = value.tensor_size_in_bytes()

    def read(self, pointer: int, byte_size: int) -> memoryview:
        if self._host is None:
            self._host = np.ascontiguousarray(self._value.numpy()).reshape(-1).view(np.uint8).data
        start = pointer - self.pointer
        return self._host[start : start + byte_size]
