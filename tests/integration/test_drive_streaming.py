"""Streams against real grpcio servers: several answers a request, errors, resets and windows."""

import threading
import time
from collections.abc import Iterator

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb

from perf_client.errors import LoadError
from perf_client.profile import Concurrency, LoadProfile, RequestRate
from perf_client.summarize import summarize
from tests.fakes.driven import drive_grpc, failures
from tests.fakes.grpc_server import Converse

Requests = Iterator[pb.ModelInferRequest]
Answers = Iterator[pb.ModelStreamInferResponse]


def profile(**changes) -> LoadProfile:
    settings = {
        "model": "echo",
        "protocol": "grpc",
        "streaming": True,
        "load": Concurrency(in_flight=4),
        "shapes": {"INPUT0": (8,)},
        "request_count": 60,
        "timeout_s": 10.0,
    }
    return LoadProfile(**(settings | changes))


def run_against(stream: Converse, options: tuple[tuple[str, int], ...] = (), *, decoupled: bool = True, **changes):
    return drive_grpc(profile(**changes), stream=stream, options=options, decoupled=decoupled)


def answer(request: pb.ModelInferRequest, final: bool | None = None) -> pb.ModelStreamInferResponse:
    """The input given back."""
    message = pb.ModelStreamInferResponse()
    response = message.infer_response
    response.outputs.add(name="OUTPUT0", datatype="FP32", shape=request.inputs[0].shape)
    response.raw_output_contents.append(request.raw_input_contents[0])
    if final is not None:
        response.parameters["triton_final_response"].bool_param = final
    return message


def end() -> pb.ModelStreamInferResponse:
    message = pb.ModelStreamInferResponse()
    message.infer_response.parameters["triton_final_response"].bool_param = True
    return message


def three_and_the_end(requests: Requests, context: grpc.ServicerContext) -> Answers:
    for request in requests:
        assert request.parameters["triton_enable_empty_final_response"].bool_param
        for _ in range(3):
            yield answer(request, final=False)
        yield end()


def one_each(requests: Requests, context: grpc.ServicerContext) -> Answers:
    """As a server answers that says nothing of a last answer."""
    for request in requests:
        yield answer(request)


def test_each_request_has_its_own_answers_and_an_empty_end_is_none():
    run = run_against(three_and_the_end)
    assert failures(run) == {"": 60}
    answers = run.columns.answers
    assert answers is not None
    assert answers.count.tolist() == [3] * 60
    assert (answers.first_ns() >= run.columns.first_byte_ns).all()
    assert (answers.last_ns() <= run.columns.last_byte_ns).all()
    assert (answers.gaps_ns() >= 0).all()
    result = summarize(profile(warmup_s=0.0), run.columns, run.facts)
    assert result.answers is not None
    assert result.answers.answer_count == 3 * result.request_count
    assert result.answers.output_tokens_per_second is None


def test_no_answer_is_said_to_have_come_before_the_server_gave_it():
    log: list[int] = []

    def stream(requests: Requests, context: grpc.ServicerContext) -> Answers:
        wait = threading.Event()
        for request in requests:
            for _ in range(3):
                wait.wait(0.01)
                log.append(time.monotonic_ns())
                yield answer(request, final=False)
            yield end()

    run = run_against(stream, request_count=10, load=Concurrency(in_flight=1))
    answers = run.columns.answers
    assert answers is not None
    late_ns = answers.at_ns + run.facts.start_ns - np.array(log)
    assert (late_ns > 0).all()
    assert answers.count.tolist() == [3] * 10


def test_a_server_that_says_nothing_of_an_end_gives_one_answer_a_request():
    run = run_against(one_each, decoupled=False)
    assert failures(run) == {"": 60}
    assert run.columns.answers is not None
    assert run.columns.answers.count.tolist() == [1] * 60


def test_no_answer_at_all_is_an_answer_too():
    def stream(requests: Requests, context: grpc.ServicerContext) -> Answers:
        for _ in requests:
            yield end()

    run = run_against(stream)
    assert failures(run) == {"": 60}
    assert run.columns.answers is not None
    assert run.columns.answers.count.sum() == 0
    assert summarize(profile(warmup_s=0.0), run.columns, run.facts).answers.first_answer is None


@pytest.mark.parametrize("in_flight", [1, 5, 12])
def test_streams_live_on_from_request_to_request(in_flight: int):
    opened: list[int] = []

    def stream(requests: Requests, context: grpc.ServicerContext) -> Answers:
        opened.append(1)
        yield from three_and_the_end(requests, context)

    run = run_against(stream, load=Concurrency(in_flight=in_flight))
    assert failures(run) == {"": 60}
    assert len(opened) == in_flight


def test_an_open_loop_takes_streams_as_it_needs_them():
    run = run_against(three_and_the_end, load=RequestRate(per_second=300.0, arrival="poisson"))
    assert failures(run) == {"": 60}
    assert (run.columns.sent_ns >= run.columns.scheduled_ns).all()


def test_an_error_is_a_failure_and_what_still_comes_belongs_to_no_other_request():
    lock, numbers = threading.Lock(), iter(range(1000))

    def stream(requests: Requests, context: grpc.ServicerContext) -> Answers:
        for request in requests:
            with lock:
                bad = next(numbers) % 3 == 0
            yield answer(request, final=False)
            if bad:
                yield pb.ModelStreamInferResponse(error_message="no such luck")
                yield answer(request, final=False)
            yield end()

    run = run_against(stream)
    assert failures(run) == {"": 40, "stream error": 20}
    assert run.facts.failure_examples["stream error"] == "no such luck"
    assert run.columns.answers is not None
    assert run.columns.answers.count.tolist() == [1] * 60


def test_a_stream_that_the_server_ends_fails_its_request_by_its_status():
    lock, numbers = threading.Lock(), iter(range(1000))

    def stream(requests: Requests, context: grpc.ServicerContext) -> Answers:
        for request in requests:
            with lock:
                number = next(numbers)
            if number % 4 == 0:
                context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "queue is full")
            if number % 4 == 1:
                return
            yield answer(request, final=True)

    run = run_against(stream)
    assert failures(run) == {"": 30, "grpc RESOURCE_EXHAUSTED": 15, "bad answer": 15}
    assert run.facts.failure_examples["bad answer"] == "the stream ended before the last answer"


def test_a_request_without_its_last_answer_becomes_a_timeout_and_its_stream_is_reset():
    gone, first = threading.Event(), threading.Event()

    def stream(requests: Requests, context: grpc.ServicerContext) -> Answers:
        for request in requests:
            yield answer(request, final=False)
            if not first.is_set():
                first.set()
                context.add_callback(gone.set)
                gone.wait(10)
            yield end()

    run = run_against(stream, timeout_s=0.3)
    assert failures(run) == {"": 59, "timeout": 1}
    assert gone.is_set()


@pytest.mark.parametrize("in_flight", [1, 6])
def test_tensors_larger_than_every_window_pass_both_ways_again_and_again(in_flight: int):
    sizes: list[int] = []

    def stream(requests: Requests, context: grpc.ServicerContext) -> Answers:
        for request in requests:
            sizes.append(len(request.raw_input_contents[0]))
            yield answer(request, final=False)
            yield end()

    options = (("grpc.http2.lookahead_bytes", 65535), ("grpc.http2.bdp_probe", 0))
    run = run_against(
        stream, options, shapes={"INPUT0": (150_000,)}, request_count=30, load=Concurrency(in_flight=in_flight)
    )
    assert failures(run) == {"": 30}
    assert sizes == [600_000] * 30


def test_a_server_that_allows_few_streams_gets_more_connections():
    run = run_against(three_and_the_end, (("grpc.max_concurrent_streams", 2),), load=Concurrency(in_flight=7))
    assert failures(run) == {"": 60}


def test_compressed_streams_are_read():
    run = run_against(three_and_the_end, compression="gzip")
    assert failures(run) == {"": 60}


def test_connections_that_the_server_retires_are_replaced():
    options = (("grpc.max_connection_age_ms", 100), ("grpc.max_connection_age_grace_ms", 50))
    run = run_against(three_and_the_end, options, request_count=None, duration_s=0.6)
    assert set(failures(run)) <= {"", "connection closed", "connection reset", "grpc UNAVAILABLE", "grpc CANCELLED"}
    assert run.columns.last_byte_ns[run.columns.failure == 0].max() > 200_000_000


def test_a_decoupled_model_without_streaming_is_a_sentence():
    with pytest.raises(LoadError, match=r"model echo is decoupled: .* use -i grpc --streaming") as caught:
        run_against(three_and_the_end, streaming=False)
    assert caught.value.exit_code == 2
