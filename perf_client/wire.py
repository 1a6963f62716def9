"""Requests to the bytes that go over the socket: KServe v2 over HTTP/1.1, with binary or JSON tensors, and over gRPC.

Everything is encoded before the clock starts, headers included; while the load runs nothing is left but to write.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from struct import pack
from typing import Any
from urllib.parse import quote

import msgspec

from perf_client.compression import compress
from perf_client.payload import Request
from perf_client.placement import Placement
from perf_client.profile import Compression, LoadProfile, Parameter, TensorFormat
from perf_client.target import Target
from perf_client.tensors import Tensor, json_values
from perf_client.transports.http2 import GrpcRequest, grpc_request

SERVICE = "inference.GRPCInferenceService"
INFER_PATH = f"/{SERVICE}/ModelInfer"
STREAM_PATH = f"/{SERVICE}/ModelStreamInfer"

_TELL_THE_END: dict[str, Parameter] = {"triton_enable_empty_final_response": True}
"""Without it the last answer of a decoupled model can't be known as the last one."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """What all requests of a run have in common on the wire. No ``outputs`` means all of them."""

    authority: str
    model: str
    version: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    outputs: tuple[str, ...] = ()
    input_format: TensorFormat = "binary"
    output_format: TensorFormat = "binary"
    scheme: str = "http"
    compression: Compression = "none"
    streaming: bool = False
    endpoint: str = ""

    @staticmethod
    def of(profile: LoadProfile, target: Target) -> "Envelope":
        return Envelope(
            authority=target.authority,
            scheme=target.scheme,
            compression=profile.compression,
            streaming=profile.streaming,
            endpoint=profile.endpoint,
            model=profile.model,
            version=profile.version,
            headers=profile.headers,
            outputs=profile.outputs,
            input_format=profile.input_format,
            output_format=profile.output_format,
        )


def model_path(model: str, version: str) -> str:
    path = f"/v2/models/{quote(model, safe='')}"
    return f"{path}/versions/{quote(version, safe='')}" if version else path


def http_infer_request(envelope: Envelope, request: Request, placement: Placement | None = None) -> bytes:
    """A whole HTTP/1.1 request; with a placement its tensors lie in shared memory."""
    header = msgspec.json.encode(_document(envelope, request) if placement is None else _placed(request, placement))
    binary = envelope.input_format == "binary" and placement is None
    body = header + b"".join(tensor.data for tensor in request.inputs.values()) if binary else header
    body = compress(body, envelope.compression)
    fields = [
        ("Host", envelope.authority),
        ("Content-Type", "application/octet-stream" if binary else "application/json"),
        *([("Inference-Header-Content-Length", str(len(header)))] if binary else ()),
        *_encodings(envelope.compression, "Content-Encoding", "Accept-Encoding"),
        ("Content-Length", str(len(body))),
        *envelope.headers,
    ]
    lines = [f"POST {model_path(envelope.model, envelope.version)}/infer HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in fields]
    return "\r\n".join([*lines, "", ""]).encode() + body


def _document(envelope: Envelope, request: Request) -> dict[str, Any]:
    binary = envelope.output_format == "binary"
    document: dict[str, Any] = {
        "inputs": [_json_input(envelope, name, tensor) for name, tensor in request.inputs.items()]
    }
    if envelope.outputs:
        document["outputs"] = [{"name": name, "parameters": {"binary_data": binary}} for name in envelope.outputs]
    elif binary:
        document["parameters"] = {"binary_data_output": True}
    if request.parameters:
        document["parameters"] = {**request.parameters, **document.get("parameters", {})}
    return document


def _placed(request: Request, placement: Placement) -> dict[str, Any]:
    document: dict[str, Any] = {
        "inputs": [
            {"name": name, "shape": tensor.shape, "datatype": tensor.datatype, "parameters": place.parameters}
            for (name, tensor), place in zip(request.inputs.items(), placement.inputs.values(), strict=True)
        ],
        "outputs": [{"name": name, "parameters": place.parameters} for name, place in placement.outputs.items()],
    }
    return {**document, "parameters": request.parameters} if request.parameters else document


def _json_input(envelope: Envelope, name: str, tensor: Tensor) -> dict[str, Any]:
    described = {"name": name, "shape": tensor.shape, "datatype": tensor.datatype}
    if envelope.input_format == "json":
        return {**described, "data": json_values(tensor.data, tensor.datatype, name)}
    return {**described, "parameters": {"binary_data_size": len(tensor.data)}}


def grpc_infer_request(envelope: Envelope, request: Request, placement: Placement | None = None) -> GrpcRequest:
    message = compress(infer_message(envelope, request, placement), envelope.compression)
    metadata = (*_encodings(envelope.compression, "grpc-encoding", "grpc-accept-encoding"), *envelope.headers)
    compressed = envelope.compression != "none"
    path = STREAM_PATH if envelope.streaming else INFER_PATH
    return grpc_request(envelope.authority, path, message, metadata, scheme=envelope.scheme, compressed=compressed)


def _encodings(compression: Compression, *names: str) -> list[tuple[str, str]]:
    """Fields that say how a request is compressed, and how its answer may be."""
    return [] if compression == "none" else [(name, compression) for name in names]


def infer_message(envelope: Envelope, request: Request, placement: Placement | None = None) -> bytes:
    """A ``ModelInferRequest``: model_name 1, model_version 2, parameters 4, inputs 5, outputs 6, raw contents 7."""
    parts = [_field(1, envelope.model.encode())]
    if envelope.version:
        parts.append(_field(2, envelope.version.encode()))
    parts.append(parameters_message(4, request.parameters))
    if envelope.streaming:
        parts.append(parameters_message(4, _TELL_THE_END))
    for name, tensor in request.inputs.items():
        shape = b"".join(varint(size) for size in tensor.shape)
        described = _field(1, name.encode()) + _field(2, tensor.datatype.encode()) + _field(3, shape)
        if placement is not None:
            described += parameters_message(4, placement.inputs[name].parameters)
        parts.append(_field(5, described))
    if placement is not None:
        for name, place in placement.outputs.items():
            parts.append(_field(6, _field(1, name.encode()) + parameters_message(2, place.parameters)))
        return b"".join(parts)
    parts += [_field(6, _field(1, name.encode())) for name in envelope.outputs]
    parts += [_field(7, tensor.data) for tensor in request.inputs.values()]
    return b"".join(parts)


def parameters_message(number: int, parameters: Mapping[str, Parameter]) -> bytes:
    """A ``map<string, InferParameter>`` field: bool_param 1, int64_param 2, string_param 3, double_param 4."""
    parts = []
    for name, value in parameters.items():
        match value:
            case bool():
                choice = b"\x08" + varint(value)
            case int():
                choice = b"\x10" + varint(value & 0xFFFF_FFFF_FFFF_FFFF)
            case float():
                choice = b"\x21" + pack("<d", value)
            case str():
                choice = _field(3, value.encode())
        parts.append(_field(number, _field(1, name.encode()) + _field(2, choice)))
    return b"".join(parts)


def _field(number: int, content: bytes) -> bytes:
    """A length-delimited protobuf field (wire type 2)."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
