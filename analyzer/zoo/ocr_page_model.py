"""A picture of a page to what the detection of text takes: a model of Triton's Python backend."""

from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray
from ocr_resize import resize  # type: ignore[import-not-found]  # it lies beside model.py

SHORT_SIDE = 736
"""The detection was trained on pages whose shorter side is at least this long."""
LONG_SIDE_LIMIT = 2000
MULTIPLE = 32


class TritonPythonModel:
    """One instance of the model."""

    def execute(self, requests: list[Any]) -> list[Any]:
        return [_answer(request) for request in requests]


def _answer(request: Any) -> Any:
    image = pb_utils.get_input_tensor_by_name(request, "image").as_numpy()
    if max(image.shape[:2]) > LONG_SIDE_LIMIT or min(image.shape[:2]) < MULTIPLE:
        reason = (
            f"image has {image.shape[1]} x {image.shape[0]} pixels; a side may have {MULTIPLE} to {LONG_SIDE_LIMIT}"
        )
        return pb_utils.InferenceResponse(error=pb_utils.TritonError(reason))
    return pb_utils.InferenceResponse(output_tensors=[pb_utils.Tensor("x", prepare(image))])


def prepare(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """[height, width, 3] to [1, 3, height, width] with sides that are multiples of 32 and values from -1 to 1."""
    height, width = image.shape[:2]
    ratio = max(1.0, SHORT_SIDE / min(height, width))
    size = (round(int(height * ratio) / MULTIPLE) * MULTIPLE, round(int(width * ratio) / MULTIPLE) * MULTIPLE)
    scaled = resize(image, size).astype(np.float32)
    values: NDArray[np.float32] = ((scaled / np.float32(127.5)) - np.float32(1)).transpose(2, 0, 1)[None]
    return np.ascontiguousarray(values)
