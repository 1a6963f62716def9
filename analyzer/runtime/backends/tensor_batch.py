"""Requests to one batch of tensors and back: what surrounds a backend that computes on whole batches."""

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from analyzer.runtime.backends.base import Answers, Execution, OutputCheck, TensorInstance
from analyzer.runtime.device_tensor import as_array, on_device
from analyzer.runtime.request import ErrorKind, InferError, InferRequest, Tensors


class TensorBatch:
    """An Instance around a TensorInstance."""

    def __init__(self, instance: TensorInstance, outputs: OutputCheck) -> None:
        self._instance = instance
        self._outputs = outputs

    def execute(self, execution: Execution) -> Answers:
        inputs = gather(execution.requests)
        execution.input_ended()
        outputs = self._instance.execute(inputs)
        execution.infer_ended()
        return scatter(self._outputs.select(outputs), execution.rows)

    def close(self) -> None:
        self._instance.close()


def gather(requests: Sequence[InferRequest]) -> Tensors:
    """Joins the inputs along the batch dimension; those of a single request are passed on as they are."""
    first = requests[0].inputs
    if len(requests) == 1:
        return first
    return {name: np.concatenate([request.inputs[name] for request in requests]) for name in first}


def scatter(outputs: Tensors, rows: Sequence[int]) -> Answers:
    """Splits outputs into views, one dict a request. Raises InferError where an output hasn't the batch's rows."""
    if len(rows) == 1:
        return [outputs]
    ends = list(accumulate(rows))
    for name, array in outputs.items():
        if array.ndim == 0 or array.shape[0] != ends[-1]:
            raise InferError(
                ErrorKind.INTERNAL, f"output '{name}' has shape {array.shape} for a batch of {ends[-1]} rows"
            )
    return [{name: _part(array, end - count, end) for name, array in outputs.items()} for count, end in zip(rows, ends)]


def _part(array: NDArray[np.generic], start: int, end: int) -> NDArray[np.generic]:
    held = on_device(array)
    return array[start:end] if held is None else as_array(held.rows(start, end))
