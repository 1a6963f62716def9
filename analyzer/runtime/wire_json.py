"""An HTTP infer body (JSON, with or without the binary tensor extension) to an InferRequest, and a response back."""

from dataclasses import dataclass, field
from typing import Annotated, Any

import msgspec
import numpy as np

from analyzer.runtime.json_data import from_json, to_json
from analyzer.runtime.request import InferError, InferRequest, InferResponse, Parameters, Tensors
from analyzer.runtime.wire import (
    Buffer,
    DatatypeLookup,
    datatype_dtype,
    datatype_of,
    from_raw,
    invalid,
    to_raw,
)

_MEMO_ENTRIES = 256
_MEMO_JSON_BYTES = 4096
_ANSWER_ENTRIES = 16
_UNSETTLED = (np.dtype(np.object_), np.dtype(np.uint16))  # sizes that vary; 16-bit words that may be BF16
_UNSUPPORTED = ("shared_memory_region", "classification")


class _Input(msgspec.Struct):
    name: str
    datatype: str
    shape: tuple[Annotated[int, msgspec.Meta(ge=0)], ...]
    parameters: Parameters = {}
    data: msgspec.Raw = msgspec.Raw()


class _Requested(msgspec.Struct):
    name: str
    parameters: Parameters = {}


class _InferBody(msgspec.Struct):
    inputs: list[_Input]
    outputs: list[_Requested] = []
    id: str = ""
    parameters: Parameters = {}


class _Output(msgspec.Struct, omit_defaults=True):
    name: str
    datatype: str
    shape: tuple[int, ...]
    parameters: dict[str, int] = {}
    data: list[Any] | None = None


class _Answer(msgspec.Struct, omit_defaults=True):
    model_name: str
    model_version: str
    outputs: list[_Output] | tuple[()] = ()  # never omitted: an empty list is not the default
    id: str = ""
    parameters: Parameters = {}


@dataclass(frozen=True, slots=True)
class AnswerForm:
    """Which outputs go out as binary: ``binary`` unless ``by_output`` says otherwise.

    ``known`` holds the JSON of answers given before in this form, by what it depends on.
    """

    binary: bool
    by_output: dict[str, bool]
    known: dict[object, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Plan:
    """The JSON part of a request whose tensors are all binary: cut points relative to the end of the JSON."""

    cuts: tuple[tuple[str, "np.dtype[np.generic]", tuple[int, ...], int, int], ...]
    requested: tuple[str, ...]
    id: str
    parameters: Parameters
    form: AnswerForm
    total_bytes: int


class InferDecoder:
    """Remembers the JSON of recent binary requests, since a client sends the same one again and again."""

    def __init__(self) -> None:
        self._decoder = msgspec.json.Decoder(_InferBody)
        self._plans: dict[bytes, _Plan] = {}

    def decode(
        self, model: str, version: str, body: Buffer, json_length: int | None, arrival_ns: int
    ) -> tuple[InferRequest, AnswerForm]:
        if json_length is None:
            json_length = len(body)
        elif json_length > len(body):
            raise invalid(f"Inference-Header-Content-Length is {json_length} but the body has only {len(body)} bytes")
        text = bytes(body[:json_length])
        plan = self._plans.get(text)
        inputs: Tensors = {}
        if plan is None:
            parsed = self._parse(text)
            plan = _plan(parsed, inputs)
            if not inputs and len(text) <= _MEMO_JSON_BYTES:
                if len(self._plans) >= _MEMO_ENTRIES:
                    self._plans.clear()
                self._plans[text] = plan
        if json_length + plan.total_bytes != len(body):
            raise invalid(
                f"the binary inputs sum to {plan.total_bytes} bytes but {len(body) - json_length} bytes follow the JSON"
            )
        for name, dtype, shape, start, end in plan.cuts:
            inputs[name] = from_raw(name, dtype, shape, body[json_length + start : json_length + end])
        request = InferRequest(
            model, inputs, arrival_ns, version, plan.id, plan.requested, plan.parameters and dict(plan.parameters)
        )
        return request, plan.form

    def _parse(self, text: bytes) -> _InferBody:
        try:
            return self._decoder.decode(text)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise invalid(f"failed to parse the request JSON buffer: {error}") from None
        except RecursionError:
            raise invalid("failed to parse the request JSON buffer: it is nested too deeply") from None


def _plan(body: _InferBody, inputs: Tensors) -> _Plan:
    """Decodes JSON tensors into ``inputs`` on the way; binary ones become cut points."""
    cuts = []
    position = 0
    names = set()
    for tensor in body.inputs:
        if tensor.name in names:
            raise invalid(f"input '{tensor.name}' is given twice")
        names.add(tensor.name)
        _refuse_unsupported(tensor)
        size = tensor.parameters.get("binary_data_size")
        dtype = datatype_dtype(tensor.datatype, tensor.name)
        if size is None:
            inputs[tensor.name] = from_json(tensor.name, tensor.datatype, tensor.shape, bytes(tensor.data))
            continue
        if type(size) is not int or size < 0:
            raise invalid(f"binary_data_size of input '{tensor.name}' must be a whole number of bytes")
        cuts.append((tensor.name, dtype, tensor.shape, position, position + size))
        position += size
    for requested in body.outputs:
        _refuse_unsupported(requested)
    return _Plan(
        cuts=tuple(cuts),
        requested=tuple(requested.name for requested in body.outputs),
        id=body.id,
        parameters={name: value for name, value in body.parameters.items() if name != "binary_data_output"},
        form=_form(body),
        total_bytes=position,
    )


def _refuse_unsupported(tensor: _Input | _Requested) -> None:
    for name in _UNSUPPORTED:
        if name in tensor.parameters:
            raise invalid(f"parameter '{name}' of '{tensor.name}' is not supported by this server")


def _form(body: _InferBody) -> AnswerForm:
    by_output: dict[str, bool] = {}
    for output in body.outputs:
        wanted = output.parameters.get("binary_data")
        if wanted is not None:
            by_output[output.name] = _flag(wanted, "binary_data")
    return AnswerForm(_flag(body.parameters.get("binary_data_output", False), "binary_data_output"), by_output)


def _flag(value: object, name: str) -> bool:
    if not isinstance(value, bool):
        raise invalid(f"parameter '{name}' must be true or false")
    return value


_encode = msgspec.json.Encoder().encode


def encode_infer(response: InferResponse, form: AnswerForm, lookup: DatatypeLookup) -> tuple[list[Buffer], int | None]:
    """The body as parts, and the length of its JSON where binary tensors follow it."""
    outputs = response.outputs
    if response.id or response.parameters:
        return _encode_answer(response, form, lookup)
    key = (response.model, response.version, *[(name, array.dtype, array.shape) for name, array in outputs.items()])
    text = form.known.get(key)
    if text is not None:
        return [text, *[to_raw(array) for array in outputs.values()]], len(text)
    parts, json_length = _encode_answer(response, form, lookup)
    if len(parts) == len(outputs) + 1 and outputs and not any(array.dtype in _UNSETTLED for array in outputs.values()):
        if len(form.known) >= _ANSWER_ENTRIES:
            form.known.clear()
        form.known[key] = bytes(parts[0])
    return parts, json_length


def _encode_answer(
    response: InferResponse, form: AnswerForm, lookup: DatatypeLookup
) -> tuple[list[Buffer], int | None]:
    described: list[_Output] = []
    parts: list[Buffer] = [b""]
    for name, array in response.outputs.items():
        datatype = datatype_of(name, array, lookup)
        if form.by_output.get(name, form.binary):
            raw = to_raw(array)
            parts.append(raw)
            described.append(_Output(name, datatype, array.shape, {"binary_data_size": len(raw)}))
        else:
            described.append(_Output(name, datatype, array.shape, data=to_json(name, datatype, array)))
    answer = _Answer(response.model, response.version, described, response.id, response.parameters)
    parts[0] = text = _encode(answer)
    return parts, len(text) if len(parts) > 1 else None


def error_body(error: InferError | str) -> bytes:
    return _encode({"error": str(error)})
