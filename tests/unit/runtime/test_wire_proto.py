import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2

from analyzer.runtime.request import InferError, InferResponse
from analyzer.runtime.wire_proto import RequestDecoder, ResponseEncoder, decode_request


def message(*tensors: tuple[str, str, list[int], bytes], **more: object) -> service_pb2.ModelInferRequest:
    built = service_pb2.ModelInferRequest(model_name="m", **more)
    for name, datatype, shape, raw in tensors:
        built.inputs.add(name=name, datatype=datatype, shape=shape)
        built.raw_input_contents.append(raw)
    return built


RAW = st.sampled_from([b"", b"\x01\x02\x03\x04", b"\x09\x08\x07\x06", b"\x3a\x04\x00\x00", bytes(200)])


@given(st.lists(st.tuples(st.lists(RAW, min_size=1, max_size=2), st.sampled_from(["", "a", "b"])), max_size=12))
def test_remembered_requests_decode_as_fresh_ones(requests):
    decoder = RequestDecoder()
    for raws, request_id in requests:
        tensors = [(f"X{n}", "UINT8", [len(raw)], raw) for n, raw in enumerate(raws)]
        built = message(*tensors, id=request_id)
        got, expected = decoder.decode(built.SerializeToString(), 7), decode_request(built, 7)
        assert {name: array.tolist() for name, array in got.inputs.items()} == {
            name: array.tolist() for name, array in expected.inputs.items()
        }
        assert (got.model, got.id, got.requested, got.parameters) == ("m", request_id, (), {})


def test_remembered_request_of_the_same_length_with_other_lengths_inside_is_seen():
    decoder = RequestDecoder()
    for first, second in ((1, 3), (3, 1), (2, 2)):
        built = message(("A", "UINT8", [first], bytes(first)), ("B", "UINT8", [second], bytes(second)))
        got = decoder.decode(built.SerializeToString(), 0)
        assert [array.shape for array in got.inputs.values()] == [(first,), (second,)]


def test_fields_in_another_order_are_decoded_all_the_same():
    raw_first = service_pb2.ModelInferRequest(raw_input_contents=[b"\x05"]).SerializeToString()
    rest = service_pb2.ModelInferRequest(model_name="m")
    rest.inputs.add(name="A", datatype="UINT8", shape=[1])
    decoder = RequestDecoder()
    for _ in range(2):
        assert decoder.decode(raw_first + rest.SerializeToString(), 0).inputs["A"].tolist() == [5]


def test_requested_outputs_and_parameters_are_read():
    built = message(("A", "UINT8", [1], b"\x01"))
    built.outputs.add(name="OUT")
    built.parameters["priority"].int64_param = 3
    built.parameters["tag"].string_param = "x"
    decoder = RequestDecoder()
    for _ in range(2):
        got = decoder.decode(built.SerializeToString(), 0)
        assert got.requested == ("OUT",)
        assert got.parameters == {"priority": 3, "tag": "x"}
        got.parameters.clear()


def contents(datatype: str, shape: list[int], **values: object) -> service_pb2.ModelInferRequest:
    built = service_pb2.ModelInferRequest(model_name="m")
    tensor = built.inputs.add(name="A", datatype=datatype, shape=shape)
    for field, items in values.items():
        getattr(tensor.contents, field).extend(items)
    return built


@pytest.mark.parametrize(
    ("datatype", "field", "values"),
    [
        ("BOOL", "bool_contents", [True, False]),
        ("INT8", "int_contents", [-128, 127]),
        ("INT64", "int64_contents", [-(2**63), 5]),
        ("UINT16", "uint_contents", [0, 65535]),
        ("UINT64", "uint64_contents", [0, 2**64 - 1]),
        ("FP32", "fp32_contents", [1.5, -2.0]),
        ("FP64", "fp64_contents", [1e300, 0.0]),
        ("BYTES", "bytes_contents", [b"", b"\xff"]),
    ],
)
def test_typed_contents(datatype, field, values):
    assert decode_request(contents(datatype, [2], **{field: values}), 0).inputs["A"].tolist() == values


@pytest.mark.parametrize(
    ("built", "sentence"),
    [
        (contents("INT8", [1], int_contents=[128]), "can't hold"),
        (contents("UINT8", [1], uint_contents=[256]), "can't hold"),
        (contents("INT32", [3], int_contents=[1]), "needs 3 elements, got 1"),
        (contents("INT32", [1], fp32_contents=[1]), "belong in int_contents"),
        (contents("FP16", [1], fp32_contents=[1]), "use raw_input_contents"),
        (contents("BYTES", [2], bytes_contents=[b"a"]), "expected 2 string elements"),
        (message(("A", "UINT8", [-1], b"")), "negative dimension"),
        (message(("A", "NONE", [1], b"")), "unknown datatype"),
        (message(("A", "FP32", [1], b"abc")), "Expected 4, got 3"),
        (message(("A", "UINT8", [1], b"a"), ("A", "UINT8", [1], b"a")), "given twice"),
        (service_pb2.ModelInferRequest(raw_input_contents=[b"", b""]), "number of raw input contents"),
    ],
)
def test_what_can_not_be_a_tensor_is_refused(built, sentence):
    if not built.inputs:
        built.inputs.add(name="A", datatype="UINT8", shape=[1])
    with pytest.raises(InferError, match=sentence):
        RequestDecoder().decode(built.SerializeToString(), 0)


@pytest.mark.parametrize("size", [0, 1, 127, 128, 20_000])
def test_response_written_by_parts_is_the_message(size):
    encoder = ResponseEncoder()
    outputs = {"A": np.arange(size, dtype=np.float32), "B": np.array([b"x", b""], np.object_)}
    for request_id in ("", "seven"):
        response = InferResponse("m", "3", request_id, outputs, {"a": True, "b": 2, "c": 0.5, "d": "e"})
        told = service_pb2.ModelInferResponse.FromString(b"".join(encoder.encode(response, lambda *_: "")))
        assert (told.model_name, told.model_version, told.id) == ("m", "3", request_id)
        assert [(output.name, output.datatype, list(output.shape)) for output in told.outputs] == [
            ("A", "FP32", [size]),
            ("B", "BYTES", [2]),
        ]
        assert told.raw_output_contents[0] == outputs["A"].tobytes()
        assert told.raw_output_contents[1] == b"\x01\x00\x00\x00x\x00\x00\x00\x00"
        assert told.parameters["a"].bool_param
        assert (told.parameters["b"].int64_param, told.parameters["c"].double_param) == (2, 0.5)
        assert told.parameters["d"].string_param == "e"


def test_words_of_16_bits_take_the_declared_type_each_time():
    encoder, response = ResponseEncoder(), InferResponse("m", "1", "", {"A": np.zeros(1, np.uint16)})
    for declared in ("BF16", "UINT16"):
        told = service_pb2.ModelInferResponse.FromString(
            b"".join(encoder.encode(response, lambda *_, declared=declared: declared))
        )
        assert told.outputs[0].datatype == declared
