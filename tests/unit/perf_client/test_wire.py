"""Encoded requests, read back by the reference implementations of their formats."""

import json

import pytest
from hpack import Decoder
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as pb

from perf_client.payload import Request
from perf_client.tensors import Tensor
from perf_client.transports import http2
from perf_client.wire import Envelope, http_infer_request, infer_message, model_path, varint

INPUTS = {"A": Tensor("INT32", (2, 3), bytes(range(24))), "ä": Tensor("BYTES", (1,), b"\x02\0\0\0hi")}
REQUEST = Request(INPUTS)


def test_http_request_has_headers_json_and_raw_tensors():
    head, _, body = http_infer_request(Envelope("h:1", "m x/y", "2"), REQUEST).partition(b"\r\n\r\n")
    line, *fields = head.decode().split("\r\n")
    headers = dict(field.split(": ") for field in fields)
    assert line == "POST /v2/models/m%20x%2Fy/versions/2/infer HTTP/1.1"
    assert headers["Host"] == "h:1"
    assert int(headers["Content-Length"]) == len(body)
    size = int(headers["Inference-Header-Content-Length"])
    assert json.loads(body[:size]) == {
        "inputs": [
            {"name": "A", "shape": [2, 3], "datatype": "INT32", "parameters": {"binary_data_size": 24}},
            {"name": "ä", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": 6}},
        ],
        "parameters": {"binary_data_output": True},
    }
    assert body[size:] == bytes(range(24)) + b"\x02\0\0\0hi"


def test_the_version_is_left_out_where_none_was_asked_for():
    assert model_path("m", "") == "/v2/models/m"


def test_grpc_message_is_what_protobuf_reads():
    message = pb.ModelInferRequest.FromString(infer_message(Envelope("h:1", "m", "3"), REQUEST))
    assert (message.model_name, message.model_version) == ("m", "3")
    assert [(each.name, each.datatype, list(each.shape)) for each in message.inputs] == [
        ("A", "INT32", [2, 3]),
        ("ä", "BYTES", [1]),
    ]
    assert list(message.raw_input_contents) == [tensor.data for tensor in INPUTS.values()]


@given(st.integers(0, 2**63 - 1))
def test_varints_are_those_of_protobuf(value: int):
    encoded = b"\x18" + varint(value)
    assert pb.ModelStatistics.FromString(encoded).last_inference == value


@given(st.integers(0, 100_000), st.integers(1, 2**20).map(lambda half: 2 * half - 1))
def test_a_grpc_request_is_one_headers_frame_and_whole_data_frames(size: int, stream: int):
    message = bytes(size)
    request = http2.grpc_request("host:1", "/p.S/M", message)
    frames = list(read_frames(stream.to_bytes(4, "big").join(request.parts)))
    assert {frame[2] for frame in frames} == {stream}
    assert [frame[0] for frame in frames] == [http2.HEADERS] + [http2.DATA] * (len(frames) - 1)
    assert [bool(frame[1] & http2.END_STREAM) for frame in frames] == [False] * (len(frames) - 1) + [True]
    assert all(len(frame[3]) <= http2.FRAME_LIMIT for frame in frames)
    data = b"".join(frame[3] for frame in frames[1:])
    assert data == b"\0" + size.to_bytes(4, "big") + message
    assert request.message() == data
    assert request.window_bytes == len(data)
    (headers,) = read_frames(request.headers(stream))
    assert headers == frames[0]


@pytest.mark.parametrize("length", [1, 126, 127, 128, 300, 20_000])
def test_header_blocks_are_what_hpack_reads(length: int):
    request = http2.grpc_request("host:1", "/" + "x" * (length - 1), b"")
    (frame,) = read_frames(request.headers(1))
    assert [(bytes(name), bytes(value)) for name, value in Decoder().decode(frame[3], raw=True)] == [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", b"/" + b"x" * (length - 1)),
        (b":authority", b"host:1"),
        (b"content-type", b"application/grpc"),
        (b"te", b"trailers"),
    ]


def read_frames(data: bytes):
    position = 0
    while position < len(data):
        high, low, kind, flags, stream = http2.FRAME_HEADER.unpack_from(data, position)
        end = position + 9 + (high << 8 | low)
        assert end <= len(data)
        yield kind, flags, stream, data[position + 9 : end]
        position = end
