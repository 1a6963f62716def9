"""What is remembered of earlier requests and answers never shows: each decodes and encodes as if it were the first."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2

from analyzer.runtime.frame_reader import FrameReader, unary_call
from analyzer.runtime.frames import PREFACE, Flag, Kind, frame_head
from analyzer.runtime.json_id import split_id, with_id
from analyzer.runtime.request import InferError, InferRequest, InferResponse
from analyzer.runtime.signature import InputSpec, OutputSpec, Signature
from analyzer.runtime.wire_json import InferDecoder, encode_infer
from analyzer.runtime.wire_proto import RequestDecoder, ResponseEncoder

IDS = st.text(st.sampled_from('ab1 "\\é\n:'), max_size=6)


def shown(request):
    tensors = {name: (a.dtype, a.shape, a.tobytes()) for name, a in request.inputs.items()}
    return request.model, request.version, request.id, request.requested, request.parameters, tensors


def json_body(request_id, values, *, spaced, extra):
    raw = np.array(values, np.float32).tobytes()
    tensor = {"name": "A", "datatype": "FP32", "shape": [len(values)], "parameters": {"binary_data_size": len(raw)}}
    fields = {"inputs": [tensor], "parameters": {"binary_data_output": True, **extra}}
    if request_id is not None:
        fields = {"id": request_id, **fields}
    separators = (", ", ": ") if spaced else (",", ":")
    text = json.dumps(fields, separators=separators).encode()
    return text + raw, len(text)


@given(
    st.lists(
        st.tuples(
            st.none() | IDS,
            st.lists(st.integers(-9, 9), min_size=1, max_size=2),
            st.booleans(),
            st.sampled_from([{}, {"id": "b"}, {'x"id': "a"}]),
        ),
        min_size=2,
        max_size=6,
    )
)
def test_a_json_request_decodes_the_same_after_any_others(requests):
    decoder = InferDecoder()
    for request_id, values, spaced, extra in requests:
        body, json_length = json_body(request_id, values, spaced=spaced, extra=extra)
        request, form = decoder.decode("m", "1", body, json_length, 7)
        fresh, fresh_form = InferDecoder().decode("m", "1", body, json_length, 7)
        assert shown(request) == shown(fresh)
        assert (form.binary, form.by_output) == (fresh_form.binary, fresh_form.by_output)
        response = InferResponse("m", "1", request.id, {"B": request.inputs["A"]})
        assert encode_infer(response, form, lambda *_: "FP32") == encode_infer(response, fresh_form, lambda *_: "FP32")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b'{"id":"a1","inputs":[]}', (b'{"id":"","inputs":[]}', "a1")),
        (b'{"id": "a1"}', (b'{"id": ""}', "a1")),
        (b'{"id":""}', (b'{"id":""}', "")),
        (b'{"id":7}', (b'{"id":7}', "")),
        (b'{"id":"a\\n"}', (b'{"id":"a\\n"}', "")),
        (b'{"id":"\xc3\xa9"}', (b'{"id":"\xc3\xa9"}', "")),
        (b'{"id":"torn', (b'{"id":"torn', "")),
        (b"{}", (b"{}", "")),
    ],
)
def test_an_id_is_split_off_where_it_is_plain(text, expected):
    assert split_id(text) == expected
    if expected[1]:
        assert split_id(with_id(text, "other")) == (expected[0], "other")


def test_a_parameter_named_id_is_not_taken_for_the_id():
    decoder = InferDecoder()
    for value in ("a", "b"):
        text = json.dumps({"parameters": {"id": value}, "id": "a", "inputs": []}, separators=(",", ":")).encode()
        request, _ = decoder.decode("m", "", text, None, 0)
        assert (request.id, request.parameters) == ("a", {"id": value})


@given(
    st.lists(
        st.tuples(IDS, st.lists(st.integers(-9, 9), min_size=1, max_size=2), st.sampled_from(["", "1"])),
        min_size=2,
        max_size=6,
    )
)
def test_a_protobuf_request_decodes_the_same_after_any_others(requests):
    decoder, encoder = RequestDecoder(), ResponseEncoder()
    for request_id, values, version in requests:
        message = service_pb2.ModelInferRequest(model_name="m", model_version=version, id=request_id)
        message.inputs.add(name="A", datatype="FP32", shape=[len(values)])
        message.raw_input_contents.append(np.array(values, np.float32).tobytes())
        data = message.SerializeToString()
        request = decoder.decode(data, 7)
        assert shown(request) == shown(RequestDecoder().decode(data, 7))
        response = InferResponse("m", "1", request.id, {"B": request.inputs["A"]})
        fresh = ResponseEncoder().encode(response, lambda *_: "FP32")
        assert b"".join(encoder.encode(response, lambda *_: "FP32")) == b"".join(fresh)


def test_an_id_that_is_not_text_is_refused_after_one_that_is():
    decoder = RequestDecoder()
    message = service_pb2.ModelInferRequest(model_name="m", id="abc")
    message.inputs.add(name="A", datatype="UINT8", shape=[1])
    message.raw_input_contents.append(b"x")
    data = message.SerializeToString()
    decoder.decode(data, 0)
    with pytest.raises(Exception, match="parsing"):
        decoder.decode(data.replace(b"abc", b"\xff\xff\xff"), 0)


FRAMES = st.tuples(
    st.sampled_from([Kind.DATA, Kind.HEADERS, Kind.PING]),
    st.sampled_from([0, Flag.END_STREAM, Flag.END_HEADERS, Flag.END_STREAM | Flag.END_HEADERS]),
    st.sampled_from([1, 3]),
    st.binary(max_size=40),
)


@given(st.lists(FRAMES, max_size=4), st.integers(0, 200))
def test_a_whole_call_is_the_same_two_frames_that_the_reader_finds(frames, cut):
    data = b"".join(frame_head(len(body), kind, flags, number) + body for kind, flags, number, body in frames)[:cut]
    found = unary_call(data, 0, 32)
    whole = frames[:2]
    is_call = (
        [(kind, flags) for kind, flags, _, _ in whole]
        == [(Kind.HEADERS, Flag.END_HEADERS), (Kind.DATA, Flag.END_STREAM)]
        and whole[0][2] == whole[1][2]
        and all(len(body) <= 32 for _, _, _, body in whole)
        and len(data) >= 18 + sum(len(body) for _, _, _, body in whole)
    )
    assert (found is not None) == is_call
    if found is not None:
        stream_id, block, payload, end = found
        reader = FrameReader(32)
        expected = list(reader.feed(PREFACE + data[:end]))
        assert [(number, body) for _, _, number, body in expected] == [(stream_id, block), (stream_id, payload)]
        assert reader.is_between_frames


def test_a_request_of_a_kind_that_failed_fails_again():
    spec = InputSpec("A", "FP32", (-1, 2), np.dtype(np.float32))
    signature = Signature("m", 4, [spec], [OutputSpec("B", "FP32", (-1, 2), np.dtype(np.float32))])
    good, bad = object(), object()
    for _ in range(2):
        assert signature.check(InferRequest("m", {"A": np.zeros((3, 2), np.float32)}, 0, kind=good)) == (3, None)
        with pytest.raises(InferError, match="unexpected shape"):
            signature.check(InferRequest("m", {"A": np.zeros((3, 1), np.float32)}, 0, kind=bad))
    assert signature.check(InferRequest("m", {"A": np.zeros((2, 2), np.float32)}, 0)) == (2, None)
