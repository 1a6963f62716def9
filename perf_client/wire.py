"""Requests to the bytes that go over the socket: KServe v2 over HTTP/1.1 with binary tensors, and over gRPC.

Everything is encoded before the clock starts, headers included; while the load runs nothing is left but to write.
"""

from urllib.parse import quote

import msgspec

from perf_client.payload import Request
from perf_client.transports.http2 import GrpcRequest, grpc_request

SERVICE = "inference.GRPCInferenceService"
INFER_PATH = f"/{SERVICE}/ModelInfer"


def model_path(model: str, version: str) -> str:
    path = f"/v2/models/{quote(model, safe='')}"
    return f"{path}/versions/{quote(version, safe='')}" if version else path


def http_infer_request(authority: str, model: str, version: str, request: Request) -> bytes:
    """A whole HTTP/1.1 request; answers are asked for as binary tensors too."""
    document = {
        "inputs": [
            {
                "name": name,
                "shape": tensor.shape,
                "datatype": tensor.datatype,
                "parameters": {"binary_data_size": len(tensor.data)},
            }
            for name, tensor in request.items()
        ],
        "parameters": {"binary_data_output": True},
    }
    header = msgspec.json.encode(document)
    body = header + b"".join(tensor.data for tensor in request.values())
    head = (
        f"POST {model_path(model, version)}/infer HTTP/1.1\r\n"
        f"Host: {authority}\r\n"
        "Content-Type: application/octet-stream\r\n"
        f"Inference-Header-Content-Length: {len(header)}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def grpc_infer_request(authority: str, model: str, version: str, request: Request) -> GrpcRequest:
    return grpc_request(authority, INFER_PATH, infer_message(model, version, request))


def infer_message(model: str, version: str, request: Request) -> bytes:
    """A ``ModelInferRequest``: model_name 1, model_version 2, inputs 5, raw_input_contents 7."""
    parts = [_field(1, model.encode()), _field(2, version.encode()) if version else b""]
    for name, tensor in request.items():
        shape = b"".join(varint(size) for size in tensor.shape)
        parts.append(_field(5, _field(1, name.encode()) + _field(2, tensor.datatype.encode()) + _field(3, shape)))
    parts += [_field(7, tensor.data) for tensor in request.values()]
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
