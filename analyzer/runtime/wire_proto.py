"""A ModelInferRequest message to an InferRequest, and a response to the bytes of a ModelInferResponse."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from tritonclient.grpc import service_pb2

from analyzer.runtime.request import InferRequest, InferResponse, Parameters, Tensors
from analyzer.runtime.wire import (
    Array,
    Buffer,
    DatatypeLookup,
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
_UNSUPPORTED = ("shared_memory_region", "classification")
_HEAD_ENTRIES = 256
_PLAN_ENTRIES = 256
_PREFIX_LIMIT_BYTES = 4096
_UINT16 = np.dtype(np.uint16)


def _tag(field: str, message: Any = service_pb2.ModelInferResponse) -> bytes:
    """The key of a length-delimited field; the numbers of these fields are below 16, so it is one byte."""
    number: int = message.DESCRIPTOR.fields_by_name[field].number
    return bytes([number << 3 | 2])


_ID_TAG = _tag("id")
_RAW_TAG = _tag("raw_output_contents")
_RAW_INPUT_TAG = _tag("raw_input_contents", service_pb2.ModelInferRequest)


@dataclass(frozen=True, slots=True)
class _Plan:
    """A request seen before, up to its tensors' bytes: ``cuts`` are name, type, shape, key and size of each."""

    prefix: bytes
    cuts: tuple[tuple[str, "np.dtype[np.generic]", tuple[int, ...], bytes, int], ...]
    request: InferRequest


class RequestDecoder:
    """Remembers recent requests by all but their tensors' bytes, since a client sends the same again and again.

    Serializers write fields in the order of their numbers, so the raw contents come last and what stands before them
    repeats. One request of each length is remembered; one that differs from it takes the plain way.
    """

    def __init__(self) -> None:
        self._plans: dict[int, _Plan] = {}

    def decode(self, message: Buffer, arrival_ns: int) -> InferRequest:
        """Raises InferError, and protobuf's DecodeError."""
        plan = self._plans.get(len(message))
        if plan is not None and message[: len(plan.prefix)] == plan.prefix:
            inputs = _cut(plan, message)
            if inputs is not None:
                known = plan.request
                return InferRequest(
                    known.model,
                    inputs,
                    arrival_ns,
                    known.version,
                    known.id,
                    known.requested,
                    known.parameters and dict(known.parameters),
                )
        parsed = service_pb2.ModelInferRequest.FromString(bytes(message))
        request = decode_request(parsed, arrival_ns)
        self._remember(message, parsed, request)
        return request

    def _remember(self, message: Buffer, parsed: service_pb2.ModelInferRequest, request: InferRequest) -> None:
        raw = parsed.raw_input_contents
        cuts = tuple(
            (name, array.dtype, array.shape, _RAW_INPUT_TAG + _varint(len(data)), len(data))
            for (name, array), data in zip(request.inputs.items(), raw)
        )
        tail = sum(len(key) + size for _, _, _, key, size in cuts)
        prefix = bytes(message[: len(message) - tail])
        if not raw or len(prefix) > _PREFIX_LIMIT_BYTES or any(dtype.hasobject for _, dtype, _, _, _ in cuts):
            return
        plan = _Plan(prefix, cuts, replace(request, inputs={}, parameters=dict(request.parameters)))
        if _cut(plan, message) is None:
            return  # this client writes its fields in another order
        if len(self._plans) >= _PLAN_ENTRIES:
            self._plans.clear()
        self._plans[len(message)] = plan


def _cut(plan: _Plan, message: Buffer) -> Tensors | None:
    """The tensors behind the prefix; None where the bytes are not laid out as in the remembered request."""
    inputs: Tensors = {}
    position = len(plan.prefix)
    for name, dtype, shape, key, size in plan.cuts:
        start = position + len(key)
        if message[position:start] != key:
            return None
        position = start + size
        inputs[name] = from_raw(name, dtype, shape, message[start:position])
    return inputs


def decode_request(message: service_pb2.ModelInferRequest, arrival_ns: int) -> InferRequest:
    raw = message.raw_input_contents
    inputs: Tensors = {}
    if raw and len(raw) != len(message.inputs):
        raise invalid(
            f"expected number of raw input contents to match the number of inputs for model '{message.model_name}': "
            f"{len(message.inputs)} inputs, {len(raw)} raw contents"
        )
    for position, tensor in enumerate(message.inputs):
        name = tensor.name
        if name in inputs:
            raise invalid(f"input '{name}' is given twice")
        dtype = datatype_dtype(tensor.datatype, name)
        shape = tuple(tensor.shape)
        if shape and min(shape) < 0:
            raise invalid(f"input '{name}' has a negative dimension in its shape {list(shape)}")
        if tensor.parameters:
            _refuse_unsupported(tensor)
        if raw:
            if tensor.HasField("contents"):
                raise invalid(f"contents field must not be specified when using raw_input_contents for '{name}'")
            inputs[name] = from_raw(name, dtype, shape, raw[position])
        else:
            inputs[name] = _from_contents(tensor, dtype, shape)
    requested = _requested(message.outputs) if message.outputs else ()
    parameters = _parameters(message.parameters) if message.parameters else {}
    return InferRequest(
        message.model_name, inputs, arrival_ns, message.model_version, message.id, requested, parameters
    )


def _requested(outputs: Any) -> tuple[str, ...]:
    for output in outputs:
        if output.parameters:
            _refuse_unsupported(output)
    return tuple(output.name for output in outputs)


def _refuse_unsupported(tensor: Any) -> None:
    for name in _UNSUPPORTED:
        if name in tensor.parameters:
            raise invalid(f"parameter '{name}' of '{tensor.name}' is not supported by this server")


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
        outputs = response.outputs
        key = (response.model, response.version, *((name, a.dtype, a.shape) for name, a in outputs.items()))
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
            parts += (_ID_TAG + _varint(len(text)), text)
        if response.parameters:
            parts.append(_encoded_parameters(response.parameters))
        for array in outputs.values():
            raw = to_raw(array)
            parts += (_RAW_TAG + _varint(len(raw)), raw)
        return parts


def _head(response: InferResponse, lookup: DatatypeLookup) -> bytes:
    message = service_pb2.ModelInferResponse(model_name=response.model, model_version=response.version)
    for name, array in response.outputs.items():
        message.outputs.add(name=name, datatype=datatype_of(name, array, lookup), shape=array.shape)
    encoded: bytes = message.SerializeToString()
    return encoded


def _encoded_parameters(parameters: Parameters) -> bytes:
    message = service_pb2.ModelInferResponse()
    for name, value in parameters.items():
        match value:
            case bool():
                message.parameters[name].bool_param = value
            case int():
                message.parameters[name].int64_param = value
            case float():
                message.parameters[name].double_param = value
            case str():
                message.parameters[name].string_param = value
    encoded: bytes = message.SerializeToString()
    return encoded


def _varint(value: int) -> bytes:
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
