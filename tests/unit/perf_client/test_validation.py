"""Answers held against what was expected, and the forms that answers come in."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as pb

from perf_client.answers import grpc_outputs, http_outputs
from perf_client.tensors import Tensor, encode_values
from perf_client.transports.base import BadAnswer
from perf_client.transports.checked_http import unchunked
from perf_client.validation import AnswerCheck, difference


def tensor(datatype: str, values: list, shape: tuple[int, ...] | None = None) -> Tensor:
    return Tensor(datatype, shape or (len(values),), encode_values(values, datatype))


@pytest.mark.parametrize(
    ("expected", "found"),
    [
        (tensor("FP32", [1.0, -2.0]), tensor("FP32", [1.000001, -2.00001])),
        (tensor("FP16", [100.0]), tensor("FP16", [100.5])),
        (tensor("BF16", [1.0]), tensor("BF16", [1.0078125])),
        (tensor("FP64", [1e9]), tensor("FP64", [1e9 + 0.5])),
        (tensor("BYTES", ["a", ""]), tensor("BYTES", ["a", ""])),
        (Tensor("FP32", (1,), b"\0\0\xc0\x7f"), Tensor("FP32", (1,), b"\1\0\xc0\x7f")),
        (tensor("FP32", [0.0]), tensor("FP32", [-0.0])),
        (Tensor("FP32", (1,), b"\0\0\x80\x7f"), Tensor("FP32", (1,), b"\0\0\x80\x7f")),
        (Tensor("FP32", (2,), b"\0\0\x80\x7f\0\0\x80\x3f"), Tensor("FP32", (2,), b"\0\0\x80\x7f\1\0\x80\x3f")),
    ],
)
def test_answers_that_count_as_equal(expected: Tensor, found: Tensor):
    assert difference(expected, found) is None


@pytest.mark.parametrize(
    ("expected", "found", "words"),
    [
        (
            tensor("FP32", [1, 2, 3, 4], (2, 2)),
            tensor("FP32", [1, 2, 9, 9], (2, 2)),
            "is 9.0 at [1, 0], not 3.0; 2 of 4",
        ),
        (tensor("FP64", [1.0]), tensor("FP64", [1.00001]), "1 of 1 values are wrong"),
        (tensor("INT32", [5]), tensor("INT32", [6]), "is 6 at [0], not 5"),
        (tensor("BOOL", [True]), tensor("BOOL", [False]), "is False at [0], not True"),
        (tensor("BYTES", ["ab", "c"]), tensor("BYTES", ["ab", "d"]), "is b'd' at [1], not b'c'"),
        (tensor("INT32", [5]), tensor("INT64", [5]), "is of type INT64, not INT32"),
        (tensor("INT32", [5]), tensor("INT32", [5], (1, 1)), "has shape [1, 1], not [1]"),
        (tensor("INT32", [5]), Tensor("INT32", (1,), b""), "has 0 values, not 1"),
        (tensor("INT32", [5]), Tensor("INT32", (1,), b"abc"), "is not of its type"),
        (tensor("BYTES", ["a"]), Tensor("BYTES", (1,), b"\xff\0\0\0a"), "is not of its type: BYTES data ends within"),
        (tensor("BYTES", ["a"]), tensor("BYTES", ["a", "b"], (1,)), "has 2 values, not 1"),
        (tensor("FP32", [1.0]), Tensor("FP32", (1,), b"\0\0\xc0\x7f"), "is nan at [0], not 1.0"),
        (Tensor("FP32", (1,), b"\0\0\xc0\x7f"), tensor("FP32", [1.0]), "is 1.0 at [0], not nan"),
        (tensor("FP32", [3e38]), Tensor("FP32", (1,), b"\0\0\x80\xff"), "is -inf at [0], not 3"),
        (Tensor("FP32", (1,), b"\0\0\x80\x7f"), Tensor("FP32", (1,), b"\0\0\x80\xff"), "is -inf at [0], not inf"),
        (Tensor("FP32", (1,), b"\0\0\x80\x7f"), tensor("FP32", [1.0]), "is 1.0 at [0], not inf"),
    ],
)
def test_differences_are_named_with_their_place(expected: Tensor, found: Tensor, words: str):
    said = difference(expected, found)
    assert said is not None
    assert words in said


def test_an_answer_that_was_right_is_known_again_by_its_bytes():
    check = AnswerCheck([{"Y": tensor("INT8", [1])}])
    reads: list[bytes] = []

    def outputs(body: bytes) -> dict[str, Tensor]:
        reads.append(body)
        return {"Y": tensor("INT8", [2 if body == b"wrong" else 1])}

    for body in (b"right", b"right", b"wrong", b"wrong", b"other", b"right"):
        said = check.mismatch((body,), lambda body=body: [outputs(body)])
        assert (said is None) == (body != b"wrong")
    assert reads == [b"right", b"wrong", b"wrong", b"other"]
    assert AnswerCheck(()).mismatch((b"",), lambda: pytest.fail("nothing is expected")) is None
    assert check.mismatch((b"new",), lambda: [{}]) == "output Y is not in the answer"


def http_answer(*outputs: dict, binary: bytes = b"") -> tuple[bytes, bytes]:
    header = json.dumps({"model_name": "m", "outputs": outputs}).encode()
    head = f"HTTP/1.1 200 OK\r\nInference-Header-Content-Length: {len(header)}\r\nX: y".encode()
    return head, header + binary


def test_binary_and_json_outputs_may_stand_in_one_answer():
    outputs = http_outputs(
        *http_answer(
            {"name": "A", "datatype": "INT8", "shape": [2], "parameters": {"binary_data_size": 2}},
            {"name": "J", "datatype": "INT16", "shape": [1, 2], "data": [[3, 4]]},
            {"name": "B", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 5}},
            binary=b"\1\2\1\0\0\0x",
        )
    )
    assert outputs == {
        "A": Tensor("INT8", (2,), b"\1\2"),
        "J": Tensor("INT16", (1, 2), b"\3\0\4\0"),
        "B": Tensor("BYTES", (1,), b"\1\0\0\0x"),
    }


def test_an_answer_all_in_json_says_no_length():
    body = json.dumps({"outputs": [{"name": "A", "datatype": "BOOL", "shape": [2], "data": [True, False]}]}).encode()
    assert http_outputs(b"HTTP/1.1 200 OK", body) == {"A": Tensor("BOOL", (2,), b"\1\0")}


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (b"HTTP/1.1 200 OK", b"<html>"),
        (b"HTTP/1.1 200 OK", b"{}"),
        (b"HTTP/1.1 200 OK", b"\xff\xfe"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip", b"{}"),
        (b"HTTP/1.1 200 OK\r\nInference-Header-Content-Length: x", b"{}"),
        http_answer({"name": "A", "datatype": "INT8", "shape": [1]}),
        http_answer({"name": "A", "datatype": "INT8", "shape": [1], "data": ["x"]}),
        http_answer({"name": "A", "datatype": "FP7", "shape": [1], "data": [1]}),
    ],
)
def test_what_is_no_answer_is_a_bad_one(head: bytes, body: bytes):
    with pytest.raises(BadAnswer):
        http_outputs(head, body)


def test_grpc_answers_come_raw_or_typed():
    answer = pb.ModelInferResponse()
    answer.outputs.add(name="A", datatype="INT8", shape=[2])
    answer.raw_output_contents.append(b"\1\2")
    assert grpc_outputs(answer.SerializeToString()) == {"A": Tensor("INT8", (2,), b"\1\2")}
    typed = pb.ModelInferResponse()
    typed.outputs.add(name="A", datatype="INT8", shape=[2]).contents.int_contents.extend([1, 2])
    typed.outputs.add(name="B", datatype="BYTES", shape=[1]).contents.bytes_contents.append(b"x")
    assert grpc_outputs(typed.SerializeToString()) == {
        "A": Tensor("INT8", (2,), b"\1\2"),
        "B": Tensor("BYTES", (1,), b"\1\0\0\0x"),
    }


def test_a_grpc_answer_with_too_few_contents_is_a_bad_one():
    answer = pb.ModelInferResponse(raw_output_contents=[b"x"])
    with pytest.raises(BadAnswer, match="0 outputs with 1 contents"):
        grpc_outputs(answer.SerializeToString())
    with pytest.raises(BadAnswer, match="not a ModelInferResponse"):
        grpc_outputs(b"\xff\xff")


@given(st.lists(st.binary(min_size=1, max_size=300)))
def test_chunks_are_put_together(chunks: list[bytes]):
    body = b"".join(b"%x;ext=1\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\nTrailer: 1\r\n\r\n"
    assert unchunked(body) == b"".join(chunks)


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
def test_bf16_is_float32_to_the_nearest(values: list[float]):
    exact = np.array(values, np.float32)
    with np.errstate(over="ignore"):
        from perf_client.tensors import bf16, numbers

        rounded = numbers(bf16(exact), "BF16")
        finite = np.isfinite(rounded)
        assert (np.abs(rounded - exact)[finite] <= np.abs(exact)[finite] * 2.0**-8 + 1e-40).all()
