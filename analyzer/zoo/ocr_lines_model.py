"""A page and the probability of text in it to images of its lines: a model of Triton's Python backend.

Lines are taken to be upright: each gets the smallest rectangle along the axes, where the library that the weights come
from looks for tilted ones too.
"""

import math
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray
from ocr_resize import resize  # type: ignore[import-not-found]  # it lies beside model.py

TEXT_THRESHOLD = 0.3
BOX_THRESHOLD = 0.5
UNCLIP_RATIO = 1.6
"""The detection was trained to mark the core of a line; the rectangle is widened by its area over its outline."""
SMALLEST_SIDE = 3
LINE_HEIGHT = 48
SHORTEST_WIDTH = 320
SAME_LINE = 10
MOST_LINES = 64

Box = tuple[int, int, int, int]
"""Left, top, right and bottom, in pixels."""


class TritonPythonModel:
    """One instance of the model."""

    def execute(self, requests: list[Any]) -> list[Any]:
        return [_answer(request) for request in requests]


def _answer(request: Any) -> Any:
    image = pb_utils.get_input_tensor_by_name(request, "image").as_numpy()
    probability = pb_utils.get_input_tensor_by_name(request, "probability").as_numpy()[0, 0]
    boxes = in_reading_order(find_boxes(probability, image.shape[:2]))
    if len(boxes) > MOST_LINES:
        reason = f"the page has {len(boxes)} lines of text; at most {MOST_LINES} are read"
        return pb_utils.InferenceResponse(error=pb_utils.TritonError(reason))
    tensors = [
        pb_utils.Tensor("lines", cut_out(image, boxes)),
        pb_utils.Tensor("box", np.array(boxes, np.int32).reshape(-1, 4)),
    ]
    return pb_utils.InferenceResponse(output_tensors=tensors)


def find_boxes(probability: NDArray[np.float32], size: tuple[int, int]) -> list[Box]:
    """Rectangles of text in a page of ``size``, of which ``probability`` is a scaled map."""
    height, width = size
    scale_y, scale_x = height / probability.shape[0], width / probability.shape[1]
    boxes = []
    for left, top, right, bottom in _areas(_thickened(probability > TEXT_THRESHOLD)):
        across, down = right - left, bottom - top
        if min(across, down) < SMALLEST_SIDE:
            continue
        if probability[top : bottom + 1, left : right + 1].mean() < BOX_THRESHOLD:
            continue
        more = across * down * UNCLIP_RATIO / (2 * (across + down))
        x = np.clip(np.rint(np.array([left - more, right + more]) * scale_x), 0, width - 1).astype(int)
        y = np.clip(np.rint(np.array([top - more, bottom + more]) * scale_y), 0, height - 1).astype(int)
        if x[1] - x[0] > SMALLEST_SIDE and y[1] - y[0] > SMALLEST_SIDE:
            boxes.append((int(x[0]), int(y[0]), int(x[1]), int(y[1])))
    return boxes


def in_reading_order(boxes: list[Box]) -> list[Box]:
    """Line by line, and from left to right where tops are nearly level."""
    ordered: list[list[Box]] = []
    last_top = -math.inf
    for box in sorted(boxes, key=lambda box: box[1]):
        if box[1] - last_top >= SAME_LINE:
            ordered.append([])
        ordered[-1].append(box)
        last_top = box[1]
    return [box for line in ordered for box in sorted(line)]


def cut_out(image: NDArray[np.uint8], boxes: list[Box]) -> NDArray[np.float32]:
    """The lines scaled to one height, padded on the right with 0 to one width; one empty line where there is none."""
    crops = [_upright(image[top:bottom, left:right]) for left, top, right, bottom in boxes]
    widest = max([SHORTEST_WIDTH / LINE_HEIGHT, *(crop.shape[1] / crop.shape[0] for crop in crops)])
    width = int(LINE_HEIGHT * widest)
    lines = np.zeros((max(1, len(crops)), 3, LINE_HEIGHT, width), np.float32)
    for line, crop in zip(lines, crops):
        across = min(width, math.ceil(LINE_HEIGHT * crop.shape[1] / crop.shape[0]))
        scaled = resize(crop, (LINE_HEIGHT, across)).astype(np.float32)
        line[:, :, :across] = ((scaled / np.float32(127.5)) - np.float32(1)).transpose(2, 0, 1)
    return lines


def _upright(crop: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.rot90(crop) if crop.shape[0] >= 1.5 * crop.shape[1] else crop


def _thickened(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Each marked pixel marks its neighbours on the right and below too, which closes hairline gaps."""
    grown = mask.copy()
    grown[1:] |= mask[:-1]
    grown[:, 1:] |= mask[:, :-1]
    grown[1:, 1:] |= mask[:-1, :-1]
    return grown


def _areas(mask: NDArray[np.bool_]) -> list[Box]:
    """The bounds (inclusive) of each area of marked pixels that touch, at corners too.

    Row by row: a run of marked pixels joins the areas of the runs above that it touches.
    """
    areas: list[list[int]] = []
    parents: list[int] = []
    above: list[tuple[int, int, int]] = []
    for y, row in enumerate(mask):
        edges = np.flatnonzero(np.diff(row.astype(np.int8), prepend=0, append=0))
        here = []
        for start, end in zip(edges[::2].tolist(), edges[1::2].tolist()):
            area = len(parents)
            parents.append(area)
            areas.append([start, y, end - 1, y])
            for left, right, other in above:
                if left <= end and start <= right:
                    area = _join(areas, parents, _root(parents, other), _root(parents, area))
            here.append((start, end, area))
        above = here
    bounds = (areas[number] for number, parent in enumerate(parents) if parent == number)
    return [(left, top, right, bottom) for left, top, right, bottom in bounds]


def _root(parents: list[int], area: int) -> int:
    while parents[area] != area:
        area = parents[area]
    return area


def _join(areas: list[list[int]], parents: list[int], one: int, other: int) -> int:
    if one != other:
        parents[other] = one
        first, second = areas[one], areas[other]
        low = [min(pair) for pair in zip(first[:2], second[:2])]
        areas[one] = low + [max(pair) for pair in zip(first[2:], second[2:])]
    return one
