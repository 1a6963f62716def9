"""Reads a model folder with the real protobuf messages and plain JSON, by none of our own writing code."""

import base64
import json
from pathlib import Path

import numpy as np
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2
from tritonclient.utils import triton_to_np_dtype

Requests = list[dict[str, np.ndarray]]


def read_config(folder: Path) -> model_config_pb2.ModelConfig:
    return text_format.Parse((folder / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())


def datatype(tensor: model_config_pb2.ModelInput | model_config_pb2.ModelOutput) -> str:
    return model_config_pb2.DataType.Name(tensor.data_type).removeprefix("TYPE_")


def read_requests(folder: Path) -> Requests:
    """The requests of ``input_data.json``, typed by the configuration beside it."""
    datatypes = {tensor.name: triton_to_np_dtype(datatype(tensor)) for tensor in read_config(folder).input}
    entries = json.loads((folder / "input_data.json").read_text())["data"]
    return [{name: _array(value, datatypes[name]) for name, value in entry.items()} for entry in entries]


def _array(value: dict, dtype: type) -> np.ndarray:
    content = value["content"]
    if isinstance(content, dict):
        flat = np.frombuffer(base64.b64decode(content["b64"], validate=True), dtype)
    else:
        flat = np.array(content, dtype)
    return flat.reshape(value["shape"])
