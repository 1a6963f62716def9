"""A ModelInferRequest message to an InferRequest, and a response to the bytes of a ModelInferResponse."""

from typing import Any

import numpy as np
from tritonclient.grpc import service_pb2

from analyzer.runtime.delivery import read_delivery
from analyzer.runtime.device_tensor import on_device
from analyzer.runtime.proto_memo import ProtoMemo, field_key, varint
from analyzer.runtime.request import Delivery, InferRequest, InferResponse, Parameters, Tensors
from analyzer.runtime.request_parameters import check_parameters
from analyzer.runtime.shared_memory import SharedMemory
from analyzer.runtime.wire import (
    Array,
    Buffer,
    DatatypeLookup,
    answer_shapes,
    bytes_array,
    datatype_dtype,
    datatype_of,
    from_raw,
    invalid,
    to_raw,
)

_CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
_HEAD_ENTRIES = 256
_UINT16 = np.dtype(np.uint16)


_ID_KEY = field_key(service_pb2.ModelInferResponse, "id")
_RAW_KEY = field_key(service_pb2.ModelInferResponse, "raw_output_contents")
_RAW_KEYS = tuple(_RAW_KEY + varint(size) for size in range(1024))  # of small tensors, as they are asked for most


class RequestDecoder:
    """Parses what it has not seen before in all but the id and the tensors' bytes."""

    def __init__(self, memory: SharedMemory | None = None) -> None:
        self._memory = memory or SharedMemory()
        self._memo = ProtoMemo()

    def decode(self, message: Buffer, arrival_ns: int) -> InferRequest:
        """Raises InferError, and protobuf's DecodeError."""
        known = self._memo.find(message, arrival_ns)
        if known is not None:
            return known
        parsed = service_pb2.ModelInferRequest.FromString(bytes(message))
        request = decode_request(parsed, arrival_ns, self._memory)
        self._memo.remember(message, parsed, request)
        return request


def decode_request(
    message: service_pb2.ModelInferRequest, arrival_ns: int, memory: SharedMemory | None = None
) -> InferRequest:
    inputs = _inputs(message, memory or SharedMemory())
    requested, deliveries = _requested(message.outputs) if message.outputs else ((), None)
    parameters = _parameters(message.parameters) if message.parameters else {}
    check_parameters(parameters)
    request = InferRequest(
        message.model_name, inputs, arrival_ns, message.model_version, message.id, requested, parameters, deliveries
    )
    request.on_device = any(on_device(array) for array in inputs.values())
    return request


def _inputs(message: service_pb2.ModelInferRequest, memory: SharedMemory) -> Tensors:
    """The tensors of a request. ``raw_input_contents`` has an entry for each that does not lie in shared memory."""
    raw = message.raw_input_contents
    inputs: Tensors = {}
    sent = sum("shared_memory_region" not in tensor.parameters for tensor in message.inputs)
    if raw and len(raw) != sent:
        raise invalid(
            f"expected number of raw input contents to match the number of inputs for model '{message.model_name}': "
            f"{sent} inputs, {len(raw)} raw contents"
        )
    position = 0
    for tensor in message.inputs:
        name = tensor.name
        if name in inputs:
            raise invalid(f"input '{name}' is given twice")
        dtype = datatype_dtype(tensor.datatype, name)
        shape = tuple(tensor.shape)
        if shape and min(shape) < 0:
            raise invalid(f"input '{name}' has a negative dimension in its shape {list(shape)}")
        place = read_delivery(name, _parameters(tensor.parameters)) if tensor.parameters else None
        if place is not None and place.region:
            inputs[name] = memory.read(name, dtype, shape, place)
        elif raw:
            if tensor.HasField("contents"):
                raise invalid(f"contents field must not be specified when using raw_input_contents for '{name}'")
            inputs[name] = from_raw(name, dtype, shape, raw[position])
            position += 1
        else:
            inputs[name] = _from_contents(tensor, dtype, shape)
    return inputs


def _requested(outputs: Any) -> tuple[tuple[str, ...], dict[str, Delivery] | None]:
    names = tuple(output.name for output in outputs)
    found = {item.name: read_delivery(item.name, _parameters(item.parameters)) for item in outputs if item.parameters}
    deliveries = {name: delivery for name, delivery in found.items() if delivery is not None}
    return names, deliveries or None


def _parameters(parameters: Any) -> Parameters:
    values: Parameters = {}
    for name, parameter in parameters.items():
        choice = parameter.WhichOneof("parameter_choice")
        if choice is not None:
            values[name] = getattr(parameter, choice)
    return values


def _from_contents(tensor: Any, dtype: "np.dtype[np.generic]", shape: tuple[int, ...]) -> Array:
    name, datatype = tensor.name, tensor.datatype
    field = _CONTENTS.get(datatype)
    if field is None:
        raise invalid(f"input '{name}': {datatype} can't be sent as contents; use raw_input_contents")
    for descriptor, _ in tensor.contents.ListFields():
        if descriptor.name != field:
            raise invalid(f"input '{name}' is {datatype}, so its contents belong in {field}, not {descriptor.name}")
    values = getattr(tensor.contents, field)
    if datatype == "BYTES":
        return bytes_array(name, shape, list(values))
    wide = np.array(values, dtype=np.int64) if field in ("int_contents", "uint_contents") else None
    array: Array = np.array(values, dtype=dtype) if wide is None else wide.astype(dtype)
    if wide is not None and not np.array_equal(wide, array):
        raise invalid(f"input '{name}' has a value that {datatype} can't hold")
    expected = int(np.prod(shape, dtype=object))
    if array.size != expected:
        raise invalid(f"input '{name}': shape {list(shape)} needs {expected} elements, got {array.size}")
    return array.reshape(shape)


class ResponseEncoder:
    """Writes ModelInferResponse messages by their parts.

    Concatenated protobuf encodings merge, so the part that repeats from answer to answer (names, types, shapes) is
    remembered as bytes, and the tensors go behind it without passing through a message.
    """

    def __init__(self) -> None:
        self._heads: dict[object, bytes] = {}

    def encode(self, response: InferResponse, lookup: DatatypeLookup) -> list[Buffer]:
        if response.placed:
            return _with_places(response, lookup)
        outputs = response.outputs
        key = answer_shapes(response)
        head = self._heads.get(key)
        if head is None:
            head = _head(response, lookup)
            if len(self._heads) >= _HEAD_ENTRIES:
                self._heads.clear()
            if _UINT16 not in {array.dtype for array in outputs.values()}:  # may mean BF16 once a model is loaded anew
                self._heads[key] = head
        parts: list[Buffer] = [head]
        if response.id:
            text = response.id.encode()
            parts += (_ID_KEY + varint(len(text)), text)
        if response.parameters:
            parts.append(_encoded_parameters(response.parameters))
        for array in outputs.values():
            raw = to_raw(array)
            size = len(raw)
            parts += (_RAW_KEYS[size] if size < len(_RAW_KEYS) else _RAW_KEY + varint(size), raw)
        return parts


def _head(response: InferResponse, lookup: DatatypeLookup) -> bytes:
    message = service_pb2.ModelInferResponse(model_name=response.model, model_version=response.version)
    for name, array in response.outputs.items():
        message.outputs.add(name=name, datatype=datatype_of(response, name, array, lookup), shape=array.shape)
    encoded: bytes = message.SerializeToString()
    return encoded


def _with_places(response: InferResponse, lookup: DatatypeLookup) -> list[Buffer]:
    """An answer with outputs in shared memory: what lies there has an empty entry in the raw contents."""
    message = service_pb2.ModelInferResponse(model_name=response.model, model_version=response.version)
    message.id = response.id
    _write_parameters(message.parameters, response.parameters)
    for name, array in response.outputs.items():
        message.outputs.add(name=name, datatype=datatype_of(response, name, array, lookup), shape=array.shape)
        message.raw_output_contents.append(b"" if name in response.placed else bytes(to_raw(array)))
    return [message.SerializeToString()]


def _encoded_parameters(parameters: Parameters) -> bytes:
    message = service_pb2.ModelInferResponse()
    _write_parameters(message.parameters, parameters)
    encoded: bytes = message.SerializeToString()
    return encoded


def _write_parameters(written: Any, parameters: Parameters) -> None:
    for name, value in parameters.items():
        match value:
            case bool():
                written[name].bool_param = value
            case int():
                written[name].int64_param = value
            case float():
                written[name].double_param = value
            case str():
                written[name].string_param = value
