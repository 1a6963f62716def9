import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from analyzer.runtime.request import InferError, InferResponse
from analyzer.runtime.wire import from_raw, to_raw
from analyzer.runtime.wire_json import AnswerForm, InferDecoder, encode_infer


def decode(body: object, raw: bytes = b"", json_length: int | None = None):
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return InferDecoder().decode("m", "", text + raw, len(text) if raw else json_length, 0)


def tensor(datatype: str, shape: tuple[int, ...], **more: object) -> dict[str, object]:
    return {"name": "X", "datatype": datatype, "shape": list(shape), **more}


@pytest.mark.parametrize(
    ("datatype", "data", "expected"),
    [
        ("BOOL", [True, False], np.array([True, False])),
        ("INT8", [-128, 127], np.array([-128, 127], np.int8)),
        ("INT64", [-(2**63), 2**63 - 1], np.array([-(2**63), 2**63 - 1], np.int64)),
        ("UINT8", [0, 255], np.array([0, 255], np.uint8)),
        ("UINT64", [1, 2**64 - 1], np.array([1, 2**64 - 1], np.uint64)),
        ("FP32", [1, 2.5], np.array([1, 2.5], np.float32)),
        ("FP64", [1e300, 0], np.array([1e300, 0])),
        ("BYTES", ["a", "ü"], np.array([b"a", "ü".encode()], np.object_)),
    ],
)
def test_json_data_of_each_datatype(datatype, data, expected):
    request, _ = decode({"inputs": [tensor(datatype, (2, 1), data=data)]})
    array = request.inputs["X"]
    assert array.dtype == expected.dtype
    assert array.shape == (2, 1)
    assert array.ravel().tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        ([tensor("INT8", (1,), data=[128])], "unable to parse 'data' of input 'X' as INT8"),
        ([tensor("UINT64", (1,), data=[2**64])], "as UINT64"),
        ([tensor("INT32", (1,), data=[1.5])], "as INT32"),
        ([tensor("INT32", (1,), data=[True])], "as INT32"),
        ([tensor("BOOL", (1,), data=[1])], "as BOOL"),
        ([tensor("FP32", (1,), data=["1"])], "as FP32"),
        ([tensor("FP32", (2,), data=[[1], [1, 2]])], "unable to parse"),
        ([tensor("FP32", (2,), data=[[1], 2])], "unable to parse"),
        ([tensor("FP32", (3,), data=[1, 2])], "needs 3 elements, got 2"),
        ([tensor("BYTES", (3,), data=["a"])], "expected 3 string elements"),
        ([tensor("BYTES", (1,), data=["\ud800"])], "parse"),
        ([tensor("FP32", (1,), data=1)], "must be an array"),
        ([tensor("FP32", (1,))], "neither 'data' nor 'binary_data_size'"),
        ([tensor("FP16", (1,), data=[1])], "can't be sent as JSON"),
        ([tensor("FP31", (1,), data=[1])], "unknown datatype 'FP31'"),
        ([tensor("FP32", (-1,), data=[1])], "shape"),
        ([tensor("FP32", (1,), parameters={"binary_data_size": -4})], "whole number of bytes"),
        ([tensor("FP32", (1,), parameters={"shared_memory_region": "r"})], "no shared_memory_byte_size"),
        ([tensor("FP32", (1,), data=[1])] * 2, "given twice"),
        ("x", "failed to parse the request JSON"),
        ([{"name": "X"}], "datatype"),
    ],
)
def test_what_can_not_be_a_tensor_is_refused_with_a_sentence(inputs, sentence):
    with pytest.raises(InferError) as caught:
        decode({"inputs": inputs})
    assert caught.value.kind.value[0] == 400
    assert sentence in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"inputs": null}', b"\xff", b'{"inputs":' + b"[" * 100_000])
def test_what_is_not_the_json_of_a_request_is_refused(body):
    with pytest.raises(InferError, match="failed to parse the request JSON"):
        decode(body)


def test_sizes_must_agree():
    binary = tensor("FP32", (2,), parameters={"binary_data_size": 8})
    with pytest.raises(InferError, match="sum to 8 bytes but 4 bytes follow"):
        decode({"inputs": [binary]}, b"\x00" * 4)
    with pytest.raises(InferError, match="Expected 8, got 4"):
        decode({"inputs": [{**binary, "parameters": {"binary_data_size": 4}}]}, b"\x00" * 4)
    with pytest.raises(InferError, match="but the body has only"):
        decode({"inputs": []}, json_length=1000)


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [(b"\x01\x00", "incomplete string length"), (b"\x05\x00\x00\x00ab", "incomplete string data"), (b"", "expected 1")],
)
def test_broken_string_tensors_are_refused(raw, sentence):
    with pytest.raises(InferError, match=sentence):
        from_raw("X", np.dtype(np.object_), (1,), raw)


def test_remembered_requests_do_not_share_their_parameters_or_data():
    decoder = InferDecoder()
    binary = tensor("INT32", (1,), parameters={"binary_data_size": 4})
    text = json.dumps({"inputs": [binary], "parameters": {"k": 1}, "id": "7"}).encode()
    first, _ = decoder.decode("m", "", text + b"\x01\x00\x00\x00", len(text), 0)
    first.parameters["k"] = 2
    second, _ = decoder.decode("m", "", text + b"\x02\x00\x00\x00", len(text), 0)
    assert second.parameters == {"k": 1}
    assert (first.inputs["X"].tolist(), second.inputs["X"].tolist(), second.id) == ([1], [2], "7")


def test_unaligned_tensor_is_copied_into_alignment():
    array = from_raw("X", np.dtype(np.float64), (1,), memoryview(b"x" + np.float64(3.5).tobytes())[1:])
    assert array.flags.aligned
    assert array.tolist() == [3.5]


def test_each_output_goes_out_in_the_form_asked_for():
    _, form = decode(
        {
            "inputs": [],
            "outputs": [{"name": "A", "parameters": {"binary_data": False}}, {"name": "B"}],
            "parameters": {"binary_data_output": True},
        }
    )
    outputs = {"A": np.array([1, 2], np.int16), "B": np.array([1.5], np.float16)}
    parts, json_length = encode_infer(InferResponse("m", "1", "", outputs), form, lambda *_: "UINT16")
    answer = json.loads(parts[0])
    assert json_length == len(parts[0])
    assert answer["outputs"][0]["data"] == [1, 2]
    assert answer["outputs"][1]["parameters"] == {"binary_data_size": 2}
    assert b"".join(parts[1:]) == np.float16(1.5).tobytes()


@pytest.mark.parametrize(
    ("array", "sentence"),
    [(np.array([1], np.float16), "FP16 can't be sent as JSON"), (np.array([b"\xff"], np.object_), "not UTF-8")],
)
def test_output_that_json_can_not_carry_is_told(array, sentence):
    with pytest.raises(InferError, match=sentence):
        encode_infer(InferResponse("m", "1", "", {"A": array}), AnswerForm(False, {}), lambda *_: "")


NUMBERS = st.sampled_from(
    [np.bool_, np.uint8, np.uint16, np.int8, np.int32, np.int64, np.float16, np.float32, np.float64]
)


@given(hnp.arrays(NUMBERS, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)))
def test_raw_bytes_of_numbers_come_back(array):
    back = from_raw("X", array.dtype, array.shape, to_raw(array))
    np.testing.assert_array_equal(back, array)


@given(st.lists(st.binary(max_size=20), max_size=10))
def test_raw_bytes_of_strings_come_back(items):
    array = np.empty(len(items), np.object_)
    array[:] = items
    assert from_raw("X", array.dtype, array.shape, to_raw(array)).tolist() == items
