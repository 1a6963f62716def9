"""What a model takes and gives, and whether a request fits: checked once a request, from tables made at load."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import model_config_pb2

from analyzer.runtime.dtypes import NUMPY_DTYPES, datatype_of, datatype_of_numpy
from analyzer.runtime.request import ErrorKind, InferError, InferRequest, Tensors


@dataclass(frozen=True, slots=True)
class InputSpec:
    """``dims`` are as a client sends them: the batch dimension (-1) comes first where the model batches.

    ``inner`` is the shape the backend wants behind the batch dimension, where the config says ``reshape``.
    """

    name: str
    datatype: str
    dims: tuple[int, ...]
    dtype: np.dtype[np.generic]
    optional: bool = False
    inner: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class OutputSpec:
    """``dims`` are as a client sees them; ``reshaped`` is true where the backend's own shape is another.

    ``labels`` name the classes, where the configuration has a ``label_filename``.
    """

    name: str
    datatype: str
    dims: tuple[int, ...]
    dtype: np.dtype[np.generic]
    reshaped: bool = False
    labels: tuple[str, ...] = ()


_KINDS = 256

ShapeKey = tuple[object, ...] | None
"""What must be equal for requests to go together; None where it cannot differ."""


class Signature:
    """The inputs and outputs of one model, and the check of a request against them."""

    def __init__(
        self, model: str, max_batch_size: int, inputs: Sequence[InputSpec], outputs: Sequence[OutputSpec]
    ) -> None:
        self.model = model
        self.max_batch_size = max_batch_size
        self.inputs = {spec.name: spec for spec in inputs}
        self.outputs = {spec.name: spec for spec in outputs}
        self.output_names = tuple(self.outputs)
        self._batches = max_batch_size > 0
        # One flat tuple an input: the check below runs for every request.
        self._checks = tuple((spec.name, spec, spec.dtype, spec.dims[int(self._batches) :]) for spec in inputs)
        self._required = {spec.name for spec in inputs if not spec.optional}
        self._shapes_vary = any(-1 in tail for _, _, _, tail in self._checks)
        self._needs_key = self._batches and (self._shapes_vary or len(self._required) < len(self.inputs))
        self._passed: dict[object, tuple[int, ShapeKey]] = {}
        self._reshapes = any(spec.inner is not None for spec in inputs)
        self.reshapes_outputs = any(spec.reshaped for spec in outputs)

    def check(self, request: InferRequest) -> tuple[int, ShapeKey]:
        """The rows (client batch; 1 for a model that does not batch) and the shape key. Raises InferError.

        A request of a kind that has passed before passes again.
        """
        passed = self._passed.get(request.kind) or self._check_all(request)
        if self._reshapes:
            self._reshape_inputs(request)
        return passed

    def _check_all(self, request: InferRequest) -> tuple[int, ShapeKey]:
        rows = self._check_inputs(request.inputs)
        if request.requested:
            self._check_requested(request.requested)
        if rows > self.max_batch_size and self._batches:
            self._refuse_batch()
        shape_key: ShapeKey = None
        if self._needs_key:
            shape_key = tuple(sorted((name, array.shape[1:]) for name, array in request.inputs.items()))
        if request.kind is not None:
            if len(self._passed) >= _KINDS:
                self._passed.clear()
            self._passed[request.kind] = rows, shape_key
        return rows, shape_key

    def _check_inputs(self, inputs: Tensors) -> int:
        """Names, types and shapes; gives the rows that all inputs agree on, 1 for a model that does not batch."""
        batches = self._batches
        found, rows = 0, -1
        for name, spec, dtype, tail in self._checks:
            array = inputs.get(name)
            if array is None:
                if not spec.optional:
                    self._refuse_names(inputs)
                continue
            found += 1
            if array.dtype is not dtype and array.dtype != dtype:
                self._refuse_dtype(spec, array)
            shape = array.shape
            inner = shape[1:] if batches else shape
            if (inner != tail and not _fits(inner, tail)) or (batches and not shape):
                self._refuse_shape(spec, shape)
            if batches and rows != shape[0]:
                if rows > 0 or not shape[0]:
                    self._refuse_rows(spec, shape)
                rows = shape[0]
        if found != len(inputs):
            self._refuse_names(inputs)
        return max(rows, 1)

    def reshape_outputs(self, outputs: Tensors, rows: int) -> Tensors:
        """The outputs in the shapes that clients see. Raises ValueError where one has another number of elements."""
        shaped = dict(outputs)
        for name, array in outputs.items():
            spec = self.outputs[name]
            if spec.reshaped:
                shaped[name] = array.reshape((rows, *spec.dims[1:]) if self._batches else spec.dims)
        return shaped

    def _reshape_inputs(self, request: InferRequest) -> None:
        reshaped = dict(request.inputs)
        for name, array in request.inputs.items():
            inner = self.inputs[name].inner
            if inner is not None:
                reshaped[name] = array.reshape((array.shape[0], *inner) if self._batches else inner)
        request.inputs = reshaped

    def _check_requested(self, requested: Iterable[str]) -> None:
        for name in requested:
            if name not in self.outputs:
                raise _invalid(f"unexpected inference output '{name}' for model '{self.model}'")

    def _refuse_names(self, inputs: Tensors) -> NoReturn:
        for name in inputs:
            if name not in self.inputs:
                raise _invalid(f"unexpected inference input '{name}' for model '{self.model}'")
        missing = sorted(self._required - set(inputs))
        raise _invalid(
            f"expected {len(self._required)} inputs but got {len(inputs)} inputs for model '{self.model}'. "
            f"Got input(s) {sorted(inputs)}, but missing required input(s) {missing}."
        )

    def _refuse_dtype(self, spec: InputSpec, array: NDArray[np.generic]) -> NoReturn:
        got = datatype_of_numpy(array.dtype) or str(array.dtype)
        raise _invalid(
            f"inference input '{spec.name}' data-type is '{got}', but model '{self.model}' expects '{spec.datatype}'"
        )

    def _refuse_shape(self, spec: InputSpec, shape: Sequence[int]) -> NoReturn:
        raise _invalid(
            f"unexpected shape for input '{spec.name}' for model '{self.model}'. "
            f"Expected {shape_text(spec.dims)}, got {shape_text(shape)}"
        )

    def _refuse_rows(self, spec: InputSpec, shape: Sequence[int]) -> NoReturn:
        if not shape[0]:
            raise _invalid(f"input '{spec.name}' of model '{self.model}' has a batch of 0 rows, at least 1 is needed")
        raise _invalid(f"input '{spec.name}' batch size does not match other inputs for '{self.model}'")

    def _refuse_batch(self) -> NoReturn:
        raise _invalid(f"inference request batch-size must be <= {self.max_batch_size} for '{self.model}'")


def make_signature(
    config: model_config_pb2.ModelConfig, labels: Mapping[str, tuple[str, ...]] | None = None
) -> Signature:
    """The signature that a completed and validated configuration states. ``labels`` are those of its outputs."""
    batch = (-1,) if config.max_batch_size > 0 else ()
    inputs = []
    for tensor in config.input:
        datatype = datatype_of(tensor.data_type)
        inner = tuple(tensor.reshape.shape) if tensor.HasField("reshape") else None
        dims = (*batch, *tensor.dims)
        inputs.append(InputSpec(tensor.name, datatype, dims, NUMPY_DTYPES[datatype], tensor.optional, inner))
    outputs = []
    for tensor in config.output:
        datatype = datatype_of(tensor.data_type)
        dims = (*batch, *tensor.dims)
        known = (labels or {}).get(tensor.name, ())
        reshaped = tensor.HasField("reshape")
        outputs.append(OutputSpec(tensor.name, datatype, dims, NUMPY_DTYPES[datatype], reshaped, known))
    return Signature(config.name, config.max_batch_size, inputs, outputs)


def shape_text(shape: Iterable[int]) -> str:
    """A shape as Triton writes it: ``[-1,16]``."""
    return f"[{','.join(map(str, shape))}]"


def _fits(shape: Sequence[int], dims: Sequence[int]) -> bool:
    return len(shape) == len(dims) and all(dim in (-1, size) for size, dim in zip(shape, dims))


def _invalid(message: str) -> InferError:
    return InferError(ErrorKind.INVALID_ARGUMENT, message)
