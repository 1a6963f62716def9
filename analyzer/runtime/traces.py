"""One traced request: stamps and tensors as they come, told as Triton's trace files tell them."""

from collections.abc import Iterator, Mapping
from time import monotonic_ns

import numpy as np

from analyzer.runtime.device_tensor import on_host
from analyzer.runtime.durations import Durations, Stamps
from analyzer.runtime.request import InferError, InferRequest, InferResponse, Tensors
from analyzer.runtime.signature import InputSpec, OutputSpec, Signature
from analyzer.runtime.trace_settings import TENSORS, TIMESTAMPS
from analyzer.runtime.wire import Array, element_bytes

Entry = dict[str, object]


class Trace:
    """An Account that keeps stamps. ``spent`` is the account that stood in its place: an ensemble's of its steps.

    ``numbers`` gives ids, to this one and to those of the steps of an ensemble.
    """

    def __init__(
        self,
        numbers: Iterator[int],
        levels: tuple[str, ...],
        signature: Signature,
        request: InferRequest,
        *,
        parent: int = 0,
        spent: Durations | None = None,
    ) -> None:
        self.id = next(numbers)
        self._numbers = numbers
        self._levels = levels
        self._signature = signature
        self._request_id = request.id
        self._parent = parent
        self._spent = spent
        self.version = request.version
        self._stamps: list[tuple[str, int]] = []
        self._tensors: list[Entry] = []
        self._steps: list[Trace] = []
        self._keep("TENSOR_QUEUE_INPUT", request.inputs, signature.inputs)

    def step(self, signature: Signature, version: str, request: InferRequest, spent: Durations) -> "Trace":
        """The trace of a request that an ensemble makes for this one."""
        trace = Trace(self._numbers, self._levels, signature, request, parent=self.id, spent=spent)
        trace.version = version
        trace.stamp("REQUEST_START", request.arrival_ns)
        self._steps.append(trace)
        return trace

    def stamp(self, name: str, at_ns: int) -> None:
        self._stamps.append((name, at_ns))

    def answered(self, answer: InferResponse | InferError) -> None:
        at_ns = monotonic_ns()
        if isinstance(answer, InferResponse):
            self.version = answer.version
            if not self._parent:
                self.stamp("INFER_RESPONSE_COMPLETE", at_ns)
            self._keep("TENSOR_BACKEND_OUTPUT", answer.outputs, self._signature.outputs)
        if isinstance(answer, InferError) or answer.final:
            self.stamp("REQUEST_END", at_ns)

    def executed(self, queued_ns: int, stamps: Stamps) -> None:
        self._stamps += [
            ("QUEUE_START", queued_ns),
            ("COMPUTE_START", stamps.start_ns),
            ("COMPUTE_INPUT_END", stamps.input_end_ns),
            ("COMPUTE_OUTPUT_START", stamps.infer_end_ns),
            ("COMPUTE_END", stamps.end_ns),
        ]
        if self._spent is not None:
            self._spent.executed(queued_ns, stamps)

    def add(self, spent: Durations) -> None:
        if self._spent is not None:
            self._spent.add(spent)

    def entries(self) -> Iterator[Entry]:
        """Its own and those of its steps. A stamp of 0 is of what had not ended when the last answer came."""
        head: Entry = {"id": self.id, "model_name": self._signature.model, "model_version": int(self.version or 0)}
        if self._request_id:
            head["request_id"] = self._request_id
        if self._parent:
            head["parent_id"] = self._parent
        yield head
        if TIMESTAMPS in self._levels:
            for name, at_ns in sorted(self._stamps, key=lambda stamp: stamp[1]):
                if at_ns:
                    yield {"id": self.id, "timestamps": [{"name": name, "ns": at_ns}]}
        yield from self._tensors
        for step in self._steps:
            yield from step.entries()

    def _keep(self, activity: str, tensors: Tensors, specs: Mapping[str, InputSpec] | Mapping[str, OutputSpec]) -> None:
        """As text at once: the memory of a tensor may be somebody else's soon."""
        if TENSORS not in self._levels:
            return
        for name, array in on_host(tensors).items():
            if name in specs:
                shape, datatype = ",".join(map(str, array.shape)), specs[name].datatype
                told = {"name": name, "data": tensor_text(array, datatype), "shape": shape, "dtype": datatype}
                self._tensors.append({"id": self.id, "activity": activity, "tensor": told})


def tensor_text(array: Array, datatype: str) -> str:
    """The elements with commas between them, texts in quotes. Floats have the digits that tell them apart."""
    if datatype == "BYTES":
        return ",".join(f'"{element_bytes(item).decode("utf-8", "backslashreplace")}"' for item in array.flat)
    if datatype == "BF16":
        array = (array.astype(np.uint32) << 16).view(np.float32)
    if datatype == "BOOL":
        array = array.astype(np.uint8)
    return ",".join(str(item).removesuffix(".0") for item in array.flat)
