"""Tensors to an input-data file in perf_analyzer's JSON format: one entry is the input of one request."""

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FILE_NAME = "input_data.json"
LISTED_ELEMENTS = 64
"""Tensors of up to so many elements are written as numbers, to be read and edited; larger ones as base64."""

Request = Mapping[str, NDArray[np.generic]]
"""Tensors of one request by input name, without the batch dimension where the model has one."""


def write_input_data(folder: Path, requests: Sequence[Request]) -> None:
    entries = [{name: _tensor(values) for name, values in request.items()} for request in requests]
    (folder / FILE_NAME).write_text(json.dumps({"data": entries}) + "\n")


def _tensor(values: NDArray[np.generic]) -> dict[str, object]:
    # base64 stands inside "content": perf_analyzer doesn't read the shape of an object whose own key is "b64".
    if values.size <= LISTED_ELEMENTS:
        content: object = values.reshape(-1).tolist()
    else:
        little_endian = values.astype(values.dtype.newbyteorder("<"), copy=False)
        content = {"b64": base64.b64encode(little_endian.tobytes()).decode("ascii")}
    return {"content": content, "shape": list(values.shape)}
