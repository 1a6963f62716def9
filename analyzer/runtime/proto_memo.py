"""ModelInferRequest messages that differ from an earlier one by their tensors' bytes and their id alone."""

from dataclasses import dataclass

import msgspec
import numpy as np
from tritonclient.grpc import service_pb2

from analyzer.runtime.request import InferRequest, Tensors
from analyzer.runtime.wire import Buffer, view_raw

_ENTRIES = 256
_PREFIX_LIMIT_BYTES = 4096


def field_key(message: type[object], field: str) -> bytes:
    """The key of a length-delimited field; the numbers of the fields used here are below 16, so it is one byte."""
    number: int = message.DESCRIPTOR.fields_by_name[field].number  # type: ignore[attr-defined]  # protobuf's classes
    return bytes([number << 3 | 2])


def varint(value: int) -> bytes:
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


_ID = field_key(service_pb2.ModelInferRequest, "id")
_RAW = field_key(service_pb2.ModelInferRequest, "raw_input_contents")


@dataclass(frozen=True, slots=True)
class _Plan:
    """A message seen before: ``lead``, an id of any content, ``rest``, then tensors by name, type, shape, key, size."""

    lead: bytes
    id_bytes: int
    rest: bytes
    cuts: tuple[tuple[str, "np.dtype[np.generic]", tuple[int, ...], bytes, int], ...]
    request: InferRequest


class ProtoMemo:
    """Remembers recent requests by all but their id and their tensors' bytes: clients send the same again and again.

    Serializers write fields in the order of their numbers, so the raw contents come last, and the id stands behind the
    model's name and version. One request of each length is remembered.
    """

    def __init__(self) -> None:
        self._plans: dict[int, _Plan] = {}

    def find(self, message: Buffer, arrival_ns: int) -> InferRequest | None:
        """The request, if the message is laid out as a remembered one."""
        plan = self._plans.get(len(message))
        return None if plan is None else _apply(plan, message, arrival_ns)

    def remember(self, message: Buffer, parsed: service_pb2.ModelInferRequest, request: InferRequest) -> None:
        raw = parsed.raw_input_contents
        if not raw or len(raw) != len(request.inputs) or any(a.dtype.hasobject for a in request.inputs.values()):
            return
        cuts = tuple(
            (name, array.dtype, array.shape, _RAW + varint(len(data)), len(data))
            for (name, array), data in zip(request.inputs.items(), raw)
        )
        prefix = bytes(message[: len(message) - sum(len(key) + size for _, _, _, key, size in cuts)])
        if len(prefix) > _PREFIX_LIMIT_BYTES:
            return
        lead, id_bytes = _lead(parsed)
        kept = msgspec.structs.replace(request, inputs={}, parameters=dict(request.parameters), kind=object())
        plan = _Plan(lead, id_bytes, prefix[len(lead) + id_bytes :], cuts, kept)
        found = _apply(plan, message, 0)
        if found is None or found.id != request.id:
            return  # this client writes its fields in another order
        if len(self._plans) >= _ENTRIES:
            self._plans.clear()
        self._plans[len(message)] = plan


def _lead(parsed: service_pb2.ModelInferRequest) -> tuple[bytes, int]:
    """What stands before the id's text, and the length of that."""
    before = service_pb2.ModelInferRequest(model_name=parsed.model_name, model_version=parsed.model_version)
    size = len(parsed.id.encode())
    return before.SerializeToString() + (_ID + varint(size) if size else b""), size


def _apply(plan: _Plan, message: Buffer, arrival_ns: int) -> InferRequest | None:
    lead, rest = plan.lead, plan.rest
    id_start = len(lead)
    id_end = id_start + plan.id_bytes
    position = id_end + len(rest)
    if message[:id_start] != lead or message[id_end:position] != rest:
        return None
    inputs: Tensors = {}
    for name, dtype, shape, key, size in plan.cuts:
        start = position + len(key)
        if message[position:start] != key:
            return None
        position = start + size
        inputs[name] = view_raw(name, dtype, shape, message[start:position])
    request_id = ""
    if plan.id_bytes:
        try:
            request_id = bytes(message[id_start:id_end]).decode()
        except UnicodeDecodeError:
            return None  # refused by who parses it
    known = plan.request
    return InferRequest(
        known.model,
        inputs,
        arrival_ns,
        known.version,
        request_id,
        known.requested,
        known.parameters and dict(known.parameters),
        known.deliveries,
        known.kind,
    )
