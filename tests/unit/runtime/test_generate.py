import asyncio
import json
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.runtime.decoupled import ResponseStream
from analyzer.runtime.dtypes import NUMPY_DTYPES
from analyzer.runtime.generate import OneAnswer, decode_generate, encode_generate
from analyzer.runtime.instance import Completions
from analyzer.runtime.request import ErrorKind, InferError, InferRequest, InferResponse
from analyzer.runtime.signature import InputSpec, OutputSpec, Signature


def signature(dims: tuple[int, ...], datatype: str = "INT32", max_batch_size: int = 0) -> Signature:
    dtype = NUMPY_DTYPES[datatype]
    return Signature(
        "m", max_batch_size, [InputSpec("X", datatype, dims, dtype)], [OutputSpec("Y", datatype, dims, dtype)]
    )


@pytest.mark.parametrize(
    ("dims", "batch", "value", "shape"),
    [
        ((1,), 0, 7, (1,)),
        ((-1, 1), 4, 7, (1, 1)),
        ((-1, -1), 4, [1, 2, 3], (1, 3)),
        ((2, -1), 0, [1, 2, 3, 4], (2, 2)),
        ((-1, -1), 0, [1, 2, 3, 4], (4,)),
        ((2, 2), 0, [[1, 2], [3, 4]], (2, 2)),
    ],
)
def test_value_takes_the_shape_that_the_model_wants(dims, batch, value, shape):
    request = decode_generate(signature(dims, max_batch_size=batch), "", json.dumps({"X": value}).encode(), 5)
    assert request.inputs["X"].shape == shape
    assert request.inputs["X"].dtype == np.int32
    assert request.accepts_stream


@given(
    st.binary(max_size=40)
    | st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists).map(
        lambda value: json.dumps({"X": value}).encode()
    )
)
def test_no_body_raises_anything_but_a_refusal(body):
    kind = ErrorKind.INVALID_ARGUMENT
    try:
        decode_generate(signature((-1,)), "", body, 0)
    except InferError as error:
        kind = error.kind
    assert kind is ErrorKind.INVALID_ARGUMENT


@given(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=5))
def test_what_goes_in_comes_out(values):
    described = signature((-1,))
    request = decode_generate(described, "", json.dumps({"X": values}).encode(), 0)
    told = json.loads(encode_generate(InferResponse("m", "1", "", {"Y": request.inputs["X"]}), described))
    assert told["Y"] == (values if len(values) > 1 else values[0])


def test_the_only_answer_is_held_back_until_the_end():
    kept = OneAnswer()
    answer = InferResponse("m", "1", "", {"Y": np.zeros(1)}, final=False)
    assert kept.add(answer) is None
    assert kept.add(InferResponse("m", "1", "", {})) is answer


def test_answers_from_several_threads_arrive_once_each_and_nothing_comes_after_the_last():
    async def scene() -> None:
        got: list[tuple[object, bool]] = []
        ended = asyncio.Event()

        def on_answer(answer: object, final: bool) -> None:
            got.append((answer, final))
            if final:
                ended.set()

        request = InferRequest("m", {}, 0)
        completions = Completions(asyncio.get_running_loop())
        stream = ResponseStream(completions, request, threading.get_ident(), on_answer)
        threads = [threading.Thread(target=lambda: [stream.send({}, final=False) for _ in range(50)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            await asyncio.to_thread(thread.join)
        assert stream.send(InferError(ErrorKind.INTERNAL, "x"), final=False)
        assert not stream.send({}, final=False)
        await asyncio.wait_for(ended.wait(), 20)
        assert len(got) == 201
        assert [final for _, final in got].count(True) == 1

    asyncio.run(scene())
