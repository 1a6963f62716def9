"""An HTTP infer body (JSON, with or without the binary tensor extension) to an InferRequest, and a response back."""

from dataclasses import dataclass, field, replace
from math import prod
from typing import Annotated, Any

import msgspec
import numpy as np

from analyzer.runtime.delivery import read_delivery
from analyzer.runtime.device_tensor import on_device
from analyzer.runtime.json_data import from_json, to_json
from analyzer.runtime.json_id import split_id, with_id
from analyzer.runtime.request import Delivery, InferError, InferRequest, InferResponse, Parameters, Tensors
from analyzer.runtime.request_parameters import check_parameters
from analyzer.runtime.shared_memory import SharedMemory
from analyzer.runtime.wire import (
    Buffer,
    DatatypeLookup,
    answer_shapes,
    datatype_dtype,
    datatype_of,
    from_raw,
    invalid,
    to_raw,
    view_raw,
)

_MEMO_ENTRIES = 256
_MEMO_JSON_BYTES = 4096
_ANSWER_ENTRIES = 16
_UNSETTLED = (np.dtype(np.object_), np.dtype(np.uint16))  # sizes that vary; 16-bit words that may be BF16


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
    parameters: Parameters = {}
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
    parameters: Parameters
    form: AnswerForm
    total_bytes: int
    shared: tuple[tuple[str, "np.dtype[np.generic]", tuple[int, ...], Delivery], ...]
    deliveries: dict[str, Delivery] | None
    is_settled: bool
    kind: object | None = None


class InferDecoder:
    """Remembers the JSON of recent binary requests, since a client sends the same one again and again."""

    def __init__(self, memory: SharedMemory | None = None) -> None:
        self._memory = memory or SharedMemory()
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
        request_id = ""
        plan = self._plans.get(text)  # without an id the text is the key as it is
        if plan is None:
            repeated, request_id = split_id(text)
            plan = self._plans.get(repeated)
        inputs: Tensors = {}
        if plan is None:
            parsed = self._parse(text)
            request_id = parsed.id
            plan = _plan(parsed, inputs)
            if not inputs and len(text) <= _MEMO_JSON_BYTES:
                plan = self._remember(text, plan, parsed)
        if json_length + plan.total_bytes != len(body):
            raise invalid(
                f"the binary inputs sum to {plan.total_bytes} bytes but {len(body) - json_length} bytes follow the JSON"
            )
        take = view_raw if plan.is_settled else from_raw
        for name, dtype, shape, start, end in plan.cuts:
            inputs[name] = take(name, dtype, shape, body[json_length + start : json_length + end])
        for name, dtype, shape, place in plan.shared:
            inputs[name] = self._memory.read(name, dtype, shape, place)
        request = InferRequest(
            model,
            inputs,
            arrival_ns,
            version,
            request_id,
            plan.requested,
            plan.parameters and dict(plan.parameters),
            plan.deliveries,
            plan.kind,
        )
        if plan.shared:
            request.on_device = any(map(on_device, inputs.values()))
        return request, plan.form

    def _remember(self, text: bytes, plan: _Plan, parsed: _InferBody) -> _Plan:
        """Remembers the plan for requests that differ by their id alone, if at all."""
        repeated, request_id = split_id(text)
        if request_id != parsed.id:
            return plan  # what looks like the id is not, or is written with escapes
        if request_id and self._parse(with_id(text, f"{request_id}?")).id == request_id:
            return plan  # another field that happens to say the same
        if len(self._plans) >= _MEMO_ENTRIES:
            self._plans.clear()
        known = self._plans[repeated] = replace(plan, kind=object())
        return known

    def _parse(self, text: bytes) -> _InferBody:
        try:
            return self._decoder.decode(text)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise invalid(f"failed to parse the request JSON buffer: {error}") from None
        except RecursionError:
            raise invalid("failed to parse the request JSON buffer: it is nested too deeply") from None


def _plan(body: _InferBody, inputs: Tensors) -> _Plan:
    """Decodes JSON tensors into ``inputs`` on the way; binary ones become cut points."""
    cuts, shared = [], []
    position = 0
    names = set()
    for tensor in body.inputs:
        if tensor.name in names:
            raise invalid(f"input '{tensor.name}' is given twice")
        names.add(tensor.name)
        place = read_delivery(tensor.name, tensor.parameters) if tensor.parameters else None
        size = tensor.parameters.get("binary_data_size")
        dtype = datatype_dtype(tensor.datatype, tensor.name)
        if place is not None and place.region:
            shared.append((tensor.name, dtype, tensor.shape, place))
            continue
        if size is None:
            inputs[tensor.name] = from_json(tensor.name, tensor.datatype, tensor.shape, bytes(tensor.data))
            continue
        if type(size) is not int or size < 0:
            raise invalid(f"binary_data_size of input '{tensor.name}' must be a whole number of bytes")
        cuts.append((tensor.name, dtype, tensor.shape, position, position + size))
        position += size
    found = {item.name: read_delivery(item.name, item.parameters) for item in body.outputs if item.parameters}
    deliveries = {name: delivery for name, delivery in found.items() if delivery is not None}
    check_parameters(body.parameters)
    return _Plan(
        cuts=tuple(cuts),
        requested=tuple(requested.name for requested in body.outputs),
        parameters={name: value for name, value in body.parameters.items() if name != "binary_data_output"},
        form=_form(body),
        total_bytes=position,
        shared=tuple(shared),
        deliveries=deliveries or None,
        is_settled=all(
            not dtype.hasobject and prod(shape) * dtype.itemsize == end - start for _, dtype, shape, start, end in cuts
        ),
    )


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
    if response.parameters or response.placed or not outputs:
        return _encode_answer(response, form, lookup)
    key = answer_shapes(response)
    text = form.known.get(key)
    if text is None:
        if not _is_settled(form, outputs):
            return _encode_answer(response, form, lookup)
        described, _ = _encode_answer(msgspec.structs.replace(response, id=""), form, lookup)
        if len(form.known) >= _ANSWER_ENTRIES:
            form.known.clear()
        text = form.known[key] = bytes(described[0])
    if response.id:
        text = b'%b,"id":%b}' % (text[:-1], _encode(response.id))
    parts: list[Buffer] = [text]
    for array in outputs.values():
        parts.append(to_raw(array))
    return parts, len(text)


def _is_settled(form: AnswerForm, outputs: Tensors) -> bool:
    """True where shapes and types say all: every output is binary, of a size and name that its type fixes."""
    return all(
        form.by_output.get(name, form.binary) and array.dtype not in _UNSETTLED for name, array in outputs.items()
    )


def _encode_answer(
    response: InferResponse, form: AnswerForm, lookup: DatatypeLookup
) -> tuple[list[Buffer], int | None]:
    described: list[_Output] = []
    parts: list[Buffer] = [b""]
    for name, array in response.outputs.items():
        datatype = datatype_of(response, name, array, lookup)
        if name in response.placed:
            described.append(_Output(name, datatype, array.shape))  # perf_analyzer stumbles over any parameter here
        elif form.by_output.get(name, form.binary):
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
