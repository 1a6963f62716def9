"""perf_analyzer's JSON input data to samples.

``{"data": [{"INPUT": [1, 2], ...}, ...]}``, where a tensor is a list, ``{"content": [...], "shape": [...]}`` or
``{"b64": "..."}`` (the tensor's raw bytes). An entry may be a list of samples, a stream; streams are played one after
the other. ``validation_data``, of the same form, holds the outputs expected for each sample, as many as are of
interest; a list of objects in the place of a sample's one holds the answers that a stream should bring, in order.
An entry may hold ``timestamp`` (ms) and ``parameters`` beside its inputs.
"""

import binascii
import re
from base64 import b64decode
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from perf_client.errors import LoadError, data_error
from perf_client.fitting import fit
from perf_client.profile import Parameter
from perf_client.sample import Sample
from perf_client.target import ModelDescription, TensorSpec
from perf_client.tensors import Shape, Tensor, encode_values

_PARTS = ("data", "validation_data")
_BESIDE_INPUTS = ("timestamp", "parameters")


def json_samples(content: bytes, model: ModelDescription, shapes: Mapping[str, Shape]) -> list[Sample]:
    """Raises LoadError with the place in the document, such as ``data[3].INPUT0``."""
    document = _document(content)
    entries = list(_entries(document, "data"))
    if not entries:
        raise data_error("it holds no sample under 'data'")
    expected = dict(_answers(document))
    if expected:
        _check_alignment([place for place, _, _ in entries], expected)
    return [
        Sample(
            inputs=_inputs(f"data{place}", entry, model, shapes),
            expected=_expected(f"validation_data{place}", expected.get(place, {}), model),
            parameters=_parameters(f"data{place}", entry, model),
            stream=stream,
            timestamp_ms=_timestamp_ms(f"data{place}", entry, model),
        )
        for place, stream, entry in entries
    ]


def _document(content: bytes) -> dict[str, Any]:
    try:
        document = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise data_error(f"it is not JSON: {_with_line(str(error), content)}") from None
    if not isinstance(document, dict):
        raise data_error("it must hold an object with a list under 'data'")
    if extra := document.keys() - set(_PARTS):
        raise data_error(f"{', '.join(sorted(extra))} is not known; leave only 'data' and 'validation_data'")
    if "data" not in document:
        raise data_error("it must hold an object with a list under 'data'")
    return document


def _with_line(message: str, content: bytes) -> str:
    """Editors count lines, the parser counts bytes."""
    found = re.search(r"\(byte (\d+)\)", message)
    if found is None:
        return message
    above, _, before = content[: int(found[1])].rpartition(b"\n")
    line = above.count(b"\n") + 2 if above or content.startswith(b"\n") else 1
    return message.replace(found[0], f"(line {line}, byte {len(before) + 1})")


def _entries(document: Mapping[str, Any], part: str) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """Each sample with its place, ``[3]`` or ``[1][0]``, and the number of its stream."""
    data = document.get(part, [])
    if not isinstance(data, list):
        raise data_error(f"{part!r} must be a list")
    stream = 0
    for index, entry in enumerate(data):
        in_stream = isinstance(entry, list)
        for step, sample in enumerate(entry if in_stream else [entry]):
            place = f"[{index}][{step}]" if in_stream else f"[{index}]"
            if not isinstance(sample, dict):
                raise data_error(f"{part}{place} is not an object of names to tensors")
            yield place, stream, sample
        # Samples outside of lists make one stream, lists one each.
        following_in_stream = index + 1 < len(data) and isinstance(data[index + 1], list)
        stream += in_stream or following_in_stream


def _answers(document: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """What is expected for each sample, with the place of the sample."""
    listed = document.get("validation_data", [])
    if not isinstance(listed, list):
        raise data_error("'validation_data' must be a list")
    data = document["data"]
    for index, entry in enumerate(listed):
        if index < len(data) and isinstance(data[index], list) and isinstance(entry, list):
            yield from ((f"[{index}][{step}]", sample) for step, sample in enumerate(entry))
        else:
            yield f"[{index}]", entry


def _check_alignment(places: list[str], expected: Mapping[str, object]) -> None:
    for place in places:
        if place not in expected:
            raise data_error(f"validation_data{place} is missing, but there is data{place}; give one for each")
    for place in expected.keys() - set(places):
        raise data_error(f"data{place} is missing, but there is validation_data{place}; give one for each")


def _inputs(
    place: str, entry: Mapping[str, Any], model: ModelDescription, shapes: Mapping[str, Shape]
) -> dict[str, Tensor]:
    names = {spec.name for spec in model.inputs}
    for name in entry.keys() - names - set(_BESIDE_INPUTS):
        raise data_error(
            f"{place} has {name!r}, not an input of model {model.name}; its inputs are {', '.join(sorted(names))}"
        )
    for spec in model.inputs:
        if spec.name not in entry and not spec.optional:
            raise data_error(f"{place} lacks input {spec.name} of model {model.name}")
    return {
        spec.name: _tensor(f"{place}.{spec.name}", entry[spec.name], spec, shapes.get(spec.name))
        for spec in model.inputs
        if spec.name in entry
    }


def _expected(place: str, given: Any, model: ModelDescription) -> tuple[dict[str, Tensor], ...]:
    """The outputs of each answer; none where nothing is to be compared."""
    if given == {}:
        return ()
    if not isinstance(given, list):
        return (_outputs(place, given, model),)
    if not given:
        raise data_error(f"{place} is an empty list; name the outputs of each answer, or give {{}} to compare nothing")
    return tuple(_outputs(f"{place}[{number}]", outputs, model) for number, outputs in enumerate(given))


def _outputs(place: str, entry: Any, model: ModelDescription) -> dict[str, Tensor]:
    if not isinstance(entry, dict):
        raise data_error(f"{place} is not an object of names to tensors")
    specs = {spec.name: spec for spec in model.outputs}
    for name in entry.keys() - specs.keys():
        raise data_error(
            f"{place} has {name!r}, not an output of model {model.name}; its outputs are {', '.join(sorted(specs))}"
        )
    return {name: _tensor(f"{place}.{name}", value, specs[name], None) for name, value in entry.items()}


def _beside(entry: Mapping[str, Any], name: str, model: ModelDescription) -> Any:
    """What an entry holds beside its inputs; an input of that name goes first."""
    return None if any(spec.name == name for spec in model.inputs) else entry.get(name)


def _parameters(place: str, entry: Mapping[str, Any], model: ModelDescription) -> dict[str, Parameter]:
    given = _beside(entry, "parameters", model)
    if given is None:
        return {}
    if not isinstance(given, dict) or not all(isinstance(value, bool | int | float | str) for value in given.values()):
        raise data_error(f"{place}.parameters is not an object of names to numbers, strings or booleans")
    return given


def _timestamp_ms(place: str, entry: Mapping[str, Any], model: ModelDescription) -> float | None:
    given = _beside(entry, "timestamp", model)
    if isinstance(given, list) and len(given) == 1:  # perf_analyzer's own form
        given = given[0]
    if given is None:
        return None
    if type(given) not in (int, float) or given < 0:
        raise data_error(f"{place}.timestamp is not a number of milliseconds")
    return float(given)


def _tensor(place: str, value: Any, spec: TensorSpec, shape: Shape | None) -> Tensor:
    try:
        if isinstance(value, dict):
            shape = _shape(value["shape"]) if "shape" in value else shape
            value = value if "b64" in value else value.get("content")
        if isinstance(value, dict) and isinstance(value.get("b64"), str):
            return fit(_decode_b64(value["b64"]), spec, shape)
        if not isinstance(value, list):
            raise data_error('a tensor is a list of values, {"content": [...], "shape": [...]} or {"b64": "..."}')
        return fit(encode_values(value, spec.datatype), spec, shape)
    except LoadError as error:
        raise data_error(f"{place}: {error}") from None


def _shape(value: Any) -> Shape:
    if not isinstance(value, list) or not all(type(size) is int and size >= 0 for size in value):
        raise data_error(f"shape {msgspec.json.encode(value).decode()} is not a list of whole numbers")
    return tuple(value)


def _decode_b64(text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise data_error(f"b64 can't be decoded: {error}") from None
