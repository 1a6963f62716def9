"""The body of an answer to the outputs in it: KServe v2 over HTTP, binary and JSON, and over gRPC."""

from typing import Any

import msgspec

from perf_client.compression import BadCompression, decompress
from perf_client.errors import LoadError
from perf_client.tensors import Tensor, encode_bytes, encode_numbers, encode_values
from perf_client.transports.base import BadAnswer

Outputs = dict[str, Tensor]

_CONTENTS = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents", "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents",
    "UINT64": "uint64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip
"""Where gRPC has tensors that don't come as raw bytes. FP16 and BF16 come in no other way than that."""


class _Parameters(msgspec.Struct, frozen=True):
    binary_data_size: int | None = None


class _Output(msgspec.Struct, frozen=True):
    name: str
    datatype: str
    shape: tuple[int, ...]
    parameters: _Parameters = _Parameters()
    data: Any = None


class _Answer(msgspec.Struct, frozen=True):
    outputs: tuple[_Output, ...]


def http_outputs(head: bytes, body: bytes) -> Outputs:
    """``head`` is the block of headers. Raises BadAnswer where the body is no answer to an inference."""
    fields = _fields(head)
    try:
        body = decompress(body, fields.get("content-encoding", "identity"))
        length = int(fields.get("inference-header-content-length", len(body)))
        answer = msgspec.json.decode(body[:length], type=_Answer)
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError, BadCompression) as error:
        raise BadAnswer(f"not an answer of KServe v2: {error}") from None
    outputs = {}
    position = length
    for output in answer.outputs:
        size = output.parameters.binary_data_size
        if size is None:
            data = _json_data(output)
        else:
            data = body[position : position + size]
            position += size
        outputs[output.name] = Tensor(output.datatype, output.shape, data)
    return outputs


def _fields(head: bytes) -> dict[str, str]:
    pairs = (line.partition(":") for line in head.decode("latin-1").split("\r\n")[1:])
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def _json_data(output: _Output) -> bytes:
    if not isinstance(output.data, list):
        raise BadAnswer(f"output {output.name} has no data")
    try:
        return encode_values(output.data, output.datatype)
    except LoadError as error:
        raise BadAnswer(f"output {output.name}: {error}") from None


def grpc_outputs(message: bytes) -> Outputs:
    """Raises BadAnswer where the message is no answer to an inference."""
    # Imported late: only who compares answers needs the messages.
    from google.protobuf.message import DecodeError
    from tritonclient.grpc import service_pb2

    try:
        answer = service_pb2.ModelInferResponse.FromString(message)
    except DecodeError as error:
        raise BadAnswer(f"not a ModelInferResponse: {error}") from None
    raw = list(answer.raw_output_contents)
    if raw and len(raw) != len(answer.outputs):
        raise BadAnswer(f"{len(answer.outputs)} outputs with {len(raw)} contents")
    return {
        output.name: Tensor(
            output.datatype, tuple(output.shape), raw[number] if raw else _contents(output.datatype, output.contents)
        )
        for number, output in enumerate(answer.outputs)
    }


def _contents(datatype: str, contents: Any) -> bytes:
    if datatype not in _CONTENTS:
        return b""
    values = list(getattr(contents, _CONTENTS[datatype]))
    return encode_bytes(values) if datatype == "BYTES" else encode_numbers(values, datatype)
