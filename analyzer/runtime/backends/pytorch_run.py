"""Named tensors through a program to named tensors: as it is, or by graphs captured for a few batch sizes."""

import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any, Protocol

from analyzer.runtime.backends.pytorch_call import CallPlan, OutputPlan
from analyzer.runtime.backends.pytorch_library import DTYPES, torch
from analyzer.runtime.backends.pytorch_parameters import TorchParameters
from analyzer.runtime.request import ErrorKind, InferError

TorchTensors = dict[str, Any]

_WARM_UP_RUNS = 3
"""Before a capture: TorchScript specializes itself in its first two runs, and libraries allocate in the first."""

_CAPTURING = threading.Lock()
"""One capture at a time in the process: it synchronizes the device before it begins, which would break another."""


class Runner(Protocol):
    def run(self, inputs: TorchTensors) -> TorchTensors: ...


class FixedRunner(Protocol):
    """One batch size: what lies in ``inputs`` when it is replayed is answered, in tensors that it writes anew."""

    inputs: TorchTensors

    def replay(self) -> TorchTensors: ...


@dataclass(frozen=True, slots=True)
class Form:
    """What floats are turned into on the way in (``floats``, a type of PyTorch) and out (``outputs``, by name)."""

    floats: Any = None
    outputs: Mapping[str, Any] | None = None
    channels_last: bool = False

    def inward(self, tensors: TorchTensors) -> TorchTensors:
        if self.floats is None and not self.channels_last:
            return tensors
        return {name: self._inward(tensor) for name, tensor in tensors.items()}

    def outward(self, tensors: TorchTensors) -> TorchTensors:
        if self.outputs is None:
            return tensors
        return {
            name: tensor.to(self.outputs[name]) if tensor.is_floating_point() else tensor
            for name, tensor in tensors.items()
        }

    def _inward(self, tensor: Any) -> Any:
        if self.floats is not None and tensor.is_floating_point():
            tensor = tensor.to(self.floats)
        if self.channels_last and tensor.dim() == 4:
            tensor = tensor.contiguous(memory_format=torch.channels_last)
        return tensor


class EagerRunner:
    def __init__(self, call: Any, inputs: CallPlan, outputs: OutputPlan, form: Form) -> None:
        self._call = call
        self._inputs = inputs
        self._outputs = outputs
        self._form = form

    def run(self, inputs: TorchTensors) -> TorchTensors:
        positional, keywords = self._inputs.arguments(self._form.inward(inputs))
        found = self._outputs.pick(self._call(*positional, **keywords))
        for name, tensor in found.items():
            if not isinstance(tensor, torch.Tensor):
                kind = type(tensor).__name__
                text = f"model '{self._outputs.model}' gave output '{name}' as {kind}, not as a tensor"
                raise InferError(ErrorKind.INTERNAL, text)
        return self._form.outward(found)


class PaddedRunner:
    """Runs a batch by the smallest captured size that it fits in, and by ``otherwise`` where it fits in none.

    The rows behind its own are copies of its first, whose answers are cut off.
    """

    def __init__(self, fixed: Mapping[int, FixedRunner], otherwise: Runner) -> None:
        self._fixed = sorted(fixed.items())
        self._otherwise = otherwise

    def run(self, inputs: TorchTensors) -> TorchTensors:
        rows = next(iter(inputs.values())).shape[0]
        for size, runner in self._fixed:
            if size >= rows and inputs.keys() == runner.inputs.keys():
                return _run_padded(runner, inputs, rows, size)
        return self._otherwise.run(inputs)


def _run_padded(runner: FixedRunner, inputs: TorchTensors, rows: int, size: int) -> TorchTensors:
    for name, tensor in inputs.items():
        target = runner.inputs[name]
        target[:rows].copy_(tensor, non_blocking=True)
        if rows < size:
            target[rows:].copy_(tensor[:1].expand_as(target[rows:]), non_blocking=True)
    outputs = runner.replay()
    return {
        name: tensor[:rows] if tensor.dim() and tensor.shape[0] == size else tensor for name, tensor in outputs.items()
    }


class CudaGraphRunner:
    """One captured CUDA graph. Not for use by two threads."""

    def __init__(self, runner: Runner, inputs: TorchTensors, pool: Any, stream: Any) -> None:
        """Captures what the runner does with these inputs, on the stream that is current and given."""
        self.inputs = inputs
        with _CAPTURING:
            for _ in range(_WARM_UP_RUNS):
                runner.run(inputs)
            stream.synchronize()
            self._graph = torch.cuda.CUDAGraph()
            # Other instances go on using the device meanwhile: only what this thread does is captured.
            with torch.cuda.graph(self._graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
                self._outputs = runner.run(inputs)

    def replay(self) -> TorchTensors:
        self._graph.replay()
        return self._outputs


def capture_sizes(
    runner: Runner, sizes: Sequence[int], shapes: Mapping[str, tuple[str, tuple[int, ...]]], stream: Any
) -> dict[int, FixedRunner]:
    """A graph a size, the largest first, so that the smaller ones find room in its pool.

    They can share one pool because they never run at the same time and every answer is copied before the next replay.
    ``shapes`` has the KServe type and the shape of a row of every input.
    """
    pool = torch.cuda.graph_pool_handle()
    captured: dict[int, FixedRunner] = {}
    for size in sorted(sizes, reverse=True):
        inputs = {
            name: torch.zeros((size, *shape), dtype=DTYPES[datatype], device=stream.device)
            for name, (datatype, shape) in shapes.items()
        }
        captured[size] = CudaGraphRunner(runner, inputs, pool, stream)
    return captured


class Scope:
    """What surrounds every run: no gradients, and what the parameters ask for."""

    def __init__(self, parameters: TorchParameters, device_type: str, stream: Any = None) -> None:
        self._parameters = parameters
        self._device_type = device_type
        self._stream = stream
        needs_more = stream is not None or parameters.autocast or not parameters.optimized_execution
        self._is_plain = parameters.inference_mode and not needs_more

    def __call__(self) -> AbstractContextManager[object]:
        if self._is_plain:
            mode: AbstractContextManager[object] = torch.inference_mode()
            return mode
        stack = ExitStack()
        if self._stream is not None:
            stack.enter_context(torch.cuda.stream(self._stream))
        stack.enter_context(torch.inference_mode() if self._parameters.inference_mode else torch.no_grad())
        if not self._parameters.optimized_execution:
            stack.enter_context(torch.jit.optimized_execution(False))
        if self._parameters.autocast:
            # Without its cache: weights cast before a capture would be freed under the captured graph.
            cached = not self._parameters.graph_sizes
            dtype = DTYPES[self._parameters.autocast]
            stack.enter_context(torch.autocast(self._device_type, dtype, cache_enabled=cached))
        return stack
