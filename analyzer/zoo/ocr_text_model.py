"""What the recognition says of each line to text: a model of Triton's Python backend.

``characters.txt`` lies beside this file: one entry a class, the blank of CTC first.
"""

from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray

SCORE_THRESHOLD = 0.5


class TritonPythonModel:
    """One instance of the model."""

    def initialize(self, args: dict[str, str]) -> None:
        text = Path(__file__).with_name("characters.txt").read_text(encoding="utf-8")
        self._characters = text.removesuffix("\n").split("\n")

    def execute(self, requests: list[Any]) -> list[Any]:
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        boxes = pb_utils.get_input_tensor_by_name(request, "box").as_numpy()
        steps = pb_utils.get_input_tensor_by_name(request, "steps").as_numpy()
        # Of a page without text there is one empty line, and no box.
        read = [decode(line, self._characters) for line in steps[: len(boxes)]]
        kept = [number for number, (text, score) in enumerate(read) if text.strip() and score >= SCORE_THRESHOLD]
        texts = np.array([read[number][0].encode() for number in kept], np.object_)
        tensors = [
            pb_utils.Tensor("text", texts),
            pb_utils.Tensor("score", np.array([read[number][1] for number in kept], np.float32)),
            pb_utils.Tensor("box", boxes[kept]),
        ]
        return pb_utils.InferenceResponse(output_tensors=tensors)


def decode(steps: NDArray[np.float32], characters: list[str]) -> tuple[str, float]:
    """The best path of CTC and its mean probability: repeats count once, blanks (class 0) are dropped."""
    best = steps.argmax(axis=1)
    kept = (best != 0) & np.concatenate([[True], best[1:] != best[:-1]])
    if not kept.any():
        return "", 0.0
    return "".join(characters[number] for number in best[kept]), float(steps.max(axis=1)[kept].mean())
