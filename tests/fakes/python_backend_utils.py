"""The part of ``triton_python_backend_utils`` that a simple ``model.py`` uses, for running it without a server."""

from dataclasses import dataclass

import numpy as np


@dataclass
class Tensor:
    tensor_name: str
    values: np.ndarray

    def name(self) -> str:
        return self.tensor_name

    def as_numpy(self) -> np.ndarray:
        return self.values


@dataclass
class InferenceRequest:
    inputs: list[Tensor]


@dataclass
class InferenceResponse:
    output_tensors: list[Tensor]


def get_input_tensor_by_name(request: InferenceRequest, name: str) -> Tensor | None:
    return next((tensor for tensor in request.inputs if tensor.name() == name), None)
