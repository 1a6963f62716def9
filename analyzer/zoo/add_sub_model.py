"""The sum and the difference of two integer vectors: a model of Triton's Python backend."""

from typing import Any

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """One instance of the model."""

    def execute(self, requests: list[Any]) -> list[Any]:
        return [_answer(request) for request in requests]


def _answer(request: Any) -> Any:
    left = pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy()
    right = pb_utils.get_input_tensor_by_name(request, "INPUT1").as_numpy()
    total = pb_utils.Tensor("OUTPUT0", left + right)
    difference = pb_utils.Tensor("OUTPUT1", left - right)
    return pb_utils.InferenceResponse(output_tensors=[total, difference])
