"""The body of an answer to the outputs in it: KServe v2 over HTTP, binary and JSON, and over gRPC."""

from typing import Any, Protocol

import msgspec

from perf_client.compression import BadCompression, decompress
from perf_client.errors import LoadError
from perf_client.tensors import Shape, Tensor, encode_bytes, encode_numbers, encode_values
from perf_client.transports.base import BadAnswer

Outputs = dict[str, Tensor]

_CONTENTS = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents", "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents",
    "UINT64": "uint64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip
"""Where gRPC has tensors that don't come as raw bytes. FP16 and BF16 come in no other way than that."""


class Memory(Protocol):
    """Where outputs are that don't travel in the answer."""

    def output(self, name: str, datatype: str, shape: Shape) -> bytes:
        """Raises BadAnswer where it can't be there."""


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


def http_outputs(head: bytes, body: bytes, memory: Memory | None = None) -> Outputs:
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
        if size is None and output.data is None and memory is not None:
            data = memory.output(output.name, output.datatype, output.shape)
        elif size is None:
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


def grpc_outputs(message: bytes, memory: Memory | None = None) -> Outputs:
    """Raises BadAnswer where the message is no answer to an inference."""
    # Imported late: only who compares answers needs the messages.
    from google.protobuf.message import DecodeError
    from tritonclient.grpc import service_pb2

    try:
        answer = service_pb2.ModelInferResponse.FromString(message)
    except DecodeError as error:
        raise BadAnswer(f"not a ModelInferResponse: {error}") from None
    return message_outputs(answer, memory)


def message_outputs(answer: Any, memory: Memory | None = None) -> Outputs:
    """Out of a ModelInferResponse."""
    raw = list(answer.raw_output_contents)
    if raw and len(raw) != len(answer.outputs):
        raise BadAnswer(f"{len(answer.outputs)} outputs with {len(raw)} contents")
    outputs = {}
    for number, output in enumerate(answer.outputs):
        shape = tuple(output.shape)
        if raw and (raw[number] or memory is None):
            data = raw[number]
        elif memory is not None and not output.HasField("contents"):  # some servers send an empty place holder then
            data = memory.output(output.name, output.datatype, shape)
        else:
            data = _contents(output.datatype, output.contents)
        outputs[output.name] = Tensor(output.datatype, shape, data)
    return outputs


def _contents(datatype: str, contents: Any) -> bytes:
    if datatype not in _CONTENTS:
        return b""
    values = list(getattr(contents, _CONTENTS[datatype]))
    return encode_bytes(values) if datatype == "BYTES" else encode_numbers(values, datatype)
