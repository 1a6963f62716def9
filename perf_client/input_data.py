"""Input data that the user gives, a JSON file or a folder of raw files, to checked tensors, one dict a sample.

A sample is one row of a batch: its tensors have no batch dimension. The JSON has perf_analyzer's form:
``{"data": [{"INPUT": [1, 2], ...}, ...]}``, where a tensor is a list, ``{"content": [...], "shape": [...]}`` or
``{"b64": "..."}`` (the tensor's raw bytes). Streams (lists of samples) are played one after the other.
"""

import binascii
from base64 import b64decode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import msgspec

from perf_client.errors import LoadError, data_error
from perf_client.target import VARIABLE, ModelDescription, TensorSpec
from perf_client.tensors import SIZES, bytes_elements, encode_bytes, encode_numbers

Shape = tuple[int, ...]
_NOT_YET = ("parameters", "timestamp", "model")


@dataclass(frozen=True, slots=True)
class Tensor:
    """The raw bytes of one input, BYTES elements with their length before each."""

    datatype: str
    shape: Shape
    data: bytes


Sample = dict[str, Tensor]


def load_samples(path: Path, model: ModelDescription, shapes: Mapping[str, Shape]) -> list[Sample]:
    """Read a JSON file or a folder. Raises LoadError where a tensor is missing or doesn't fit the model."""
    try:
        if path.is_dir():
            return [_folder_sample(path, model, shapes)]
        content = path.read_bytes()
    except OSError as error:
        raise data_error(
            f"input data {path} can't be read: {error.strerror}; give an existing file or folder"
        ) from None
    samples = [_json_sample(path, where, step, model, shapes) for where, step in _steps(path, content)]
    if not samples:
        raise data_error(f"input data {path} holds no sample under 'data'")
    return samples


def _steps(path: Path, content: bytes) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each sample with its place in the file, as the user would look for it."""
    try:
        document = msgspec.json.decode(content)
    except msgspec.DecodeError as error:
        raise data_error(f"input data {path} is not JSON: {error}") from None
    data = document.get("data") if isinstance(document, dict) else None
    if not isinstance(data, list):
        raise data_error(f"input data {path} must hold an object with a list under 'data'")
    if isinstance(document, dict) and document.keys() - {"data"}:
        extra = ", ".join(sorted(document.keys() - {"data"}))
        raise data_error(f"input data {path}: {extra} is not supported; leave only 'data'")
    for index, entry in enumerate(data):
        for step_index, step in enumerate(entry if isinstance(entry, list) else [entry]):
            where = f"data[{index}][{step_index}]" if isinstance(entry, list) else f"data[{index}]"
            if not isinstance(step, dict):
                raise data_error(f"input data {path}: {where} is not an object of input names to tensors")
            yield where, step


def _json_sample(
    path: Path, where: str, step: Mapping[str, Any], model: ModelDescription, shapes: Mapping[str, Shape]
) -> Sample:
    names = {spec.name for spec in model.inputs}
    for name in step.keys() - names:
        hint = "which is not supported yet" if name in _NOT_YET else f"its inputs are {', '.join(sorted(names))}"
        raise data_error(f"input data {path}: {where} has {name!r}, not an input of model {model.name}; {hint}")
    sample: Sample = {}
    for spec in model.inputs:
        if spec.name in step:
            try:
                sample[spec.name] = _json_tensor(step[spec.name], spec, shapes.get(spec.name))
            except LoadError as error:
                raise data_error(f"input data {path}: {where}, input {spec.name}: {error}") from None
        elif not spec.optional:
            raise data_error(f"input data {path}: {where} lacks input {spec.name} of model {model.name}")
    return sample


def _json_tensor(value: Any, spec: TensorSpec, shape: Shape | None) -> Tensor:
    if isinstance(value, dict):
        if "shape" in value:
            shape = _json_shape(value["shape"])
        value = value if "b64" in value else value.get("content")
    if isinstance(value, dict) and isinstance(value.get("b64"), str):
        return fit(_decode_b64(value["b64"]), spec, shape)
    if not isinstance(value, list):
        raise data_error('a tensor is a list of values, {"content": [...], "shape": [...]} or {"b64": "..."}')
    return fit(_encode(_flat(value), spec.datatype), spec, shape)


def _json_shape(value: Any) -> Shape:
    if not isinstance(value, list) or not all(type(size) is int and size >= 0 for size in value):
        raise data_error(f"shape {value!r} is not a list of whole numbers")
    return tuple(value)


def _decode_b64(text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise data_error(f"b64 can't be decoded: {error}") from None


def _encode(values: list[Any], datatype: str) -> bytes:
    if datatype != "BYTES":
        return encode_numbers(values, datatype)
    if not all(isinstance(value, str) for value in values):
        raise data_error("values of a BYTES input must be strings")
    return encode_bytes([value.encode() for value in values])


def _flat(values: list[Any]) -> list[Any]:
    """Nested lists are taken in row-major order."""
    if not any(isinstance(value, list) for value in values):
        return values
    return [inner for value in values for inner in (_flat(value) if isinstance(value, list) else [value])]


def _folder_sample(path: Path, model: ModelDescription, shapes: Mapping[str, Shape]) -> Sample:
    """One file an input, named like it: raw bytes, or for BYTES text with an element a line."""
    sample: Sample = {}
    for spec in model.inputs:
        file = path / spec.name
        if not file.is_file():
            if spec.optional:
                continue
            raise data_error(f"input data folder {path} lacks a file named {spec.name}, an input of model {model.name}")
        data = file.read_bytes()
        if spec.datatype == "BYTES":
            data = encode_bytes(data.splitlines())
        try:
            sample[spec.name] = fit(data, spec, shapes.get(spec.name))
        except LoadError as error:
            raise data_error(f"input data file {file}: {error}") from None
    return sample


def fit(data: bytes, spec: TensorSpec, shape: Shape | None) -> Tensor:
    """Check the bytes against the shape; a single variable dimension is found from their number."""
    count = _element_count(data, spec.datatype)
    if shape is None:
        shape = _infer(spec.shape, count)
    check_shape(spec, shape)
    if prod(shape) != count:
        raise data_error(f"it has {count} values, but shape {list(shape)} needs {prod(shape)}")
    return Tensor(datatype=spec.datatype, shape=shape, data=data)


def check_shape(spec: TensorSpec, shape: Shape) -> None:
    """Raise LoadError where a shape is not one that the model takes."""
    if VARIABLE in shape:
        raise data_error(
            f"input {spec.name} has the variable shape {list(shape)}; give its sizes with --shape {spec.name}:D1,D2,..."
        )
    same_rank = len(shape) == len(spec.shape)
    if not same_rank or any(wanted not in (VARIABLE, size) for size, wanted in zip(shape, spec.shape)):
        raise data_error(f"shape {list(shape)} of input {spec.name} doesn't fit the model's {list(spec.shape)}")


def _infer(shape: Shape, count: int) -> Shape:
    if shape.count(VARIABLE) != 1:
        return shape
    known = prod(size for size in shape if size != VARIABLE)
    if known == 0 or count % known:
        return shape
    return tuple(count // known if size == VARIABLE else size for size in shape)


def _element_count(data: bytes, datatype: str) -> int:
    if datatype != "BYTES":
        if len(data) % SIZES[datatype]:
            raise data_error(f"{len(data)} bytes are not a whole number of {datatype} values")
        return len(data) // SIZES[datatype]
    return len(bytes_elements(data))
