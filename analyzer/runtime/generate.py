"""The generate extension: a flat JSON object to an InferRequest, and a response to a flat JSON object."""

from math import prod
from typing import Any

import msgspec

from analyzer.runtime.dtypes import NUMPY_DTYPES
from analyzer.runtime.json_data import from_json, to_json
from analyzer.runtime.request import ErrorKind, InferError, InferRequest, InferResponse, Parameters, Tensors
from analyzer.runtime.request_parameters import check_parameters
from analyzer.runtime.signature import InputSpec, Signature
from analyzer.runtime.wire import invalid

EVENTS = "Content-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-cache\r\n"

_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


def decode_generate(signature: Signature, version: str, body: bytes, arrival_ns: int) -> InferRequest:
    """Keys that are inputs of the model become tensors, ``id`` the id, all others parameters. Raises InferError."""
    try:
        fields = _decode(body or b"{}")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise invalid(f"failed to parse the request JSON buffer: {error}") from None
    inputs: Tensors = {}
    parameters: Parameters = {}
    request_id = ""
    for name, raw in fields.items():
        spec = signature.inputs.get(name)
        if spec is not None:
            inputs[name] = _tensor(spec, bytes(raw), batched=signature.max_batch_size > 0)
        elif name == "id":
            request_id = _text(bytes(raw))
        elif name == "parameters":
            parameters |= _parameters(bytes(raw))
        else:
            parameters[name] = _scalar(name, bytes(raw))
    check_parameters(parameters)
    return InferRequest(
        signature.model, inputs, arrival_ns, version, request_id, parameters=parameters, accepts_stream=True
    )


def encode_generate(response: InferResponse, signature: Signature) -> bytes:
    """Outputs of one element as a value, others as a list, parameters beside them.

    Raises InferError for what JSON can't hold.
    """
    told: dict[str, Any] = {**response.parameters}
    told |= {"id": response.id} if response.id else {}
    told |= {"model_name": response.model, "model_version": response.version}
    for name, array in response.outputs.items():
        values = to_json(name, signature.outputs[name].datatype, array)
        told[name] = values[0] if len(values) == 1 else values
    return _encode(told)


def event(data: bytes) -> bytes:
    return b"data: " + data + b"\n\n"


class OneAnswer:
    """Holds back what a model answers until it is known to be the only answer. None: not yet."""

    def __init__(self) -> None:
        self._answers: list[InferResponse] = []

    def add(self, answer: InferResponse | InferError) -> InferResponse | InferError | None:
        if isinstance(answer, InferError):
            return answer
        if answer.outputs:
            self._answers.append(answer)
        if not answer.final:
            return None
        if len(self._answers) == 1:
            return self._answers[0]
        text = (
            f"generate expects model to produce exactly 1 response, got {len(self._answers)}; use generate_stream for "
            "a model that gives any number of responses"
        )
        return InferError(ErrorKind.INVALID_ARGUMENT, text)


def _tensor(spec: InputSpec, raw: bytes, *, batched: bool) -> Any:
    """A value is a tensor of one element; the batch dimension, if any, is 1."""
    raw = raw if raw.lstrip()[:1] == b"[" else b"[" + raw + b"]"
    count = len(_leaves(spec.name, raw))
    dims = list(spec.dims[1:] if batched else spec.dims)
    if dims.count(-1) == 1:
        known = prod(dim for dim in dims if dim != -1)
        dims[dims.index(-1)] = count // known if known else 0
    elif -1 in dims or not dims:
        dims = [count] if dims else []
    shape = (1, *dims) if batched else tuple(dims)
    array = from_json(spec.name, spec.datatype, shape, raw)
    return array.astype(NUMPY_DTYPES[spec.datatype], copy=False)


def _leaves(name: str, raw: bytes) -> list[Any]:
    """The values of a list, however deep it is nested."""
    try:
        values: list[Any] = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise invalid(f"unable to parse '{name}': {error}") from None
    while any(isinstance(value, list) for value in values):
        values = [item for value in values for item in (value if isinstance(value, list) else [value])]
    return values


def _text(raw: bytes) -> str:
    value = msgspec.json.decode(raw)
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise invalid("'id' must be a string")
    return str(value)


def _scalar(name: str, raw: bytes) -> bool | int | float | str:
    value = msgspec.json.decode(raw)
    if not isinstance(value, bool | int | float | str):
        raise invalid(f"parameter '{name}' has invalid type. It should be either 'int', 'bool', or 'string'.")
    return value


def _parameters(raw: bytes) -> Parameters:
    """``parameters`` may hold them in an object of its own."""
    value = msgspec.json.decode(raw)
    if not isinstance(value, dict):
        raise invalid("'parameters' must be an object")
    return {name: _scalar(name, _encode(item)) for name, item in value.items()}
